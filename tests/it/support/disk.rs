//! A disk whose power can be cut: a file system in a file.
//!
//! What a program has written and not synced lies in the page cache of the mounted file system, and
//! not in the file. A copy of the file is therefore what a power cut would have left behind.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use tempfile::TempDir;

/// A mounted disk, unmounted with the test.
pub(crate) struct Disk {
    folder: TempDir,
    cuts: usize,
}

impl Disk {
    /// A new, empty disk. `None` where the user may not mount: only root may.
    #[expect(clippy::print_stderr, reason = "what is skipped must be said")]
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: cutting the power of a disk takes root, to mount one");
            return None;
        }
        let disk = Self { folder: tempfile::tempdir().unwrap(), cuts: 0 };
        std::fs::create_dir(disk.path()).unwrap();
        let image = disk.image();
        std::fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        disk.mount();
        // Some servers refuse to run as root.
        for folder in [disk.folder.path().to_owned(), disk.path()] {
            std::fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
        }
        Some(disk)
    }

    /// Where it is mounted, before and after every cut.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Cuts the power: whoever writes must stand still. `end` then kills them, and the disk comes
    /// back as the cut has left it.
    pub(crate) fn cut(&mut self, end: impl FnOnce()) {
        let before = self.image();
        self.cuts += 1;
        run(Command::new("cp").arg("--sparse=always").arg(&before).arg(self.image()));
        end();
        // A child of who was killed may hold on a little longer.
        run(Command::new("umount").arg("--lazy").arg(self.path()));
        std::fs::remove_file(before).unwrap();
        self.mount();
    }

    /// Nothing is written back by itself for as long as a test lasts: only who asks is safe.
    fn mount(&self) {
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "loop,commit=300"]).arg(self.image()).arg(self.path()));
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join(format!("after-{}-cuts.img", self.cuts))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open on it must not keep the test's folder from going away.
        drop(Command::new("umount").arg("--lazy").arg(self.path()).status());
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
