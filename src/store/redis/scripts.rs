//! The scripts, and how one is called.

use std::{fmt, sync::LazyLock};

use redis::{Cmd, Script, ToRedisArgs};

use super::keys::Bucket;

/// A script: what they all share, then its own files. One that only drains may run when memory is full.
macro_rules! script {
    ($flags:literal, $($file:literal),+) => {
        LazyLock::new(|| {
            Script::new(concat!(
                "#!lua",
                $flags,
                "\n",
                include_str!("common.lua"),
                $(include_str!($file)),+
            ))
        })
    };
}

pub(super) static ADMIT: LazyLock<Script> = script!("", "admit.lua");
pub(super) static CLAIM: LazyLock<Script> = script!(" flags=allow-oom", "claim.lua");
pub(super) static EXTEND: LazyLock<Script> = script!(" flags=allow-oom", "extend.lua");
pub(super) static SETTLE: LazyLock<Script> = script!(" flags=allow-oom", "settle.lua");
pub(super) static RELEASE: LazyLock<Script> = script!(" flags=allow-oom", "release.lua");
pub(super) static ROUTE: LazyLock<Script> = script!("", "route.lua");
pub(super) static REDRIVE: LazyLock<Script> = script!(" flags=allow-oom", "redrive.lua");
pub(super) static MOVE: LazyLock<Script> = script!(" flags=allow-oom", "move.lua");
pub(super) static KILL: LazyLock<Script> = script!(" flags=allow-oom", "kill.lua");
pub(super) static PRUNE: LazyLock<Script> = script!(" flags=allow-oom", "prune.lua");
pub(super) static KEEP_REFUSALS: LazyLock<Script> = script!("", "keep_refusals.lua");
pub(super) static NOTE_READMITTED: LazyLock<Script> =
    script!(" flags=allow-oom", "note_readmitted.lua");
pub(super) static PRUNE_REFUSALS: LazyLock<Script> =
    script!(" flags=allow-oom", "prune_refusals.lua");

pub(super) static BEGIN: LazyLock<Script> = script!("", "keyed.lua", "begin.lua");
pub(super) static EXTEND_KEY: LazyLock<Script> =
    script!(" flags=allow-oom", "keyed.lua", "extend_key.lua");
pub(super) static COMPLETE: LazyLock<Script> =
    script!(" flags=allow-oom", "keyed.lua", "complete.lua");
pub(super) static ABANDON: LazyLock<Script> =
    script!(" flags=allow-oom", "keyed.lua", "abandon.lua");
pub(super) static MARK_UNKNOWN: LazyLock<Script> =
    script!(" flags=allow-oom", "keyed.lua", "mark_unknown.lua");
pub(super) static RESOLVE: LazyLock<Script> =
    script!(" flags=allow-oom", "keyed.lua", "resolve.lua");
pub(super) static PRUNE_KEYS: LazyLock<Script> =
    script!(" flags=allow-oom", "keyed.lua", "prune_keys.lua");

/// One call of a script, on one bucket.
pub(super) struct Call {
    /// The script, for loading it where the server does not know it.
    pub(super) script: &'static Script,
    /// The command, complete.
    pub(super) command: Cmd,
}

impl Call {
    /// A call of `script` on `bucket`, still without arguments.
    pub(super) fn of(script: &'static Script, bucket: &Bucket) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(1).arg(bucket.head());
        Self { script, command }
    }

    /// Adds an argument. Bytes go as they are.
    pub(super) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
    }
}

/// Without the arguments: they hold what came in.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("script", &self.script.get_hash()).finish_non_exhaustive()
    }
}
