//! The scripts, and how one is called.

use std::{fmt, sync::LazyLock};

use redis::{Cmd, Script, ToRedisArgs};

use super::connection::Session;

/// A script: what they all share, then its own files. One that only drains may run when memory is full.
/// What it does decides whether it may run while the store moves house.
macro_rules! script {
    ($flags:literal, $does:literal, $($file:literal),+) => {
        LazyLock::new(|| {
            Script::new(concat!(
                "#!lua",
                $flags,
                "\nlocal does = '",
                $does,
                "'\n",
                include_str!("common.lua"),
                $(include_str!($file)),+
            ))
        })
    };
}

pub(super) static ADMIT: LazyLock<Script> = script!("", "serves", "admit.lua");
pub(super) static CLAIM: LazyLock<Script> = script!(" flags=allow-oom", "serves", "claim.lua");
pub(super) static EXTEND: LazyLock<Script> = script!(" flags=allow-oom", "ends", "extend.lua");
pub(super) static SETTLE: LazyLock<Script> = script!(" flags=allow-oom", "ends", "settle.lua");
pub(super) static RELEASE: LazyLock<Script> = script!(" flags=allow-oom", "ends", "release.lua");
pub(super) static ROUTE: LazyLock<Script> = script!("", "serves", "route.lua");
pub(super) static REDRIVE: LazyLock<Script> = script!(" flags=allow-oom", "serves", "redrive.lua");
pub(super) static MOVE: LazyLock<Script> = script!(" flags=allow-oom", "serves", "move.lua");
pub(super) static KILL: LazyLock<Script> = script!(" flags=allow-oom", "serves", "kill.lua");
pub(super) static ERASE: LazyLock<Script> = script!(" flags=allow-oom", "serves", "erase.lua");
pub(super) static UNBLOCK: LazyLock<Script> = script!(" flags=allow-oom", "serves", "unblock.lua");
pub(super) static PRUNE: LazyLock<Script> = script!(" flags=allow-oom", "serves", "prune.lua");
pub(super) static CONTROL: LazyLock<Script> = script!(" flags=allow-oom", "serves", "control.lua");
pub(super) static KEEP_REFUSALS: LazyLock<Script> = script!("", "serves", "keep_refusals.lua");
pub(super) static NOTE_READMITTED: LazyLock<Script> =
    script!(" flags=allow-oom", "serves", "note_readmitted.lua");
pub(super) static PRUNE_REFUSALS: LazyLock<Script> =
    script!(" flags=allow-oom", "serves", "prune_refusals.lua");
pub(super) static BEGIN: LazyLock<Script> = script!("", "serves", "keyed.lua", "begin.lua");
pub(super) static EXTEND_KEY: LazyLock<Script> =
    script!(" flags=allow-oom", "ends", "keyed.lua", "extend_key.lua");
pub(super) static COMPLETE: LazyLock<Script> =
    script!(" flags=allow-oom", "ends", "keyed.lua", "complete.lua");
pub(super) static ABANDON: LazyLock<Script> =
    script!(" flags=allow-oom", "ends", "keyed.lua", "abandon.lua");
pub(super) static MARK_UNKNOWN: LazyLock<Script> =
    script!(" flags=allow-oom", "ends", "keyed.lua", "mark_unknown.lua");
pub(super) static RESOLVE: LazyLock<Script> =
    script!(" flags=allow-oom", "serves", "keyed.lua", "resolve.lua");
pub(super) static PRUNE_KEYS: LazyLock<Script> =
    script!(" flags=allow-oom", "serves", "keyed.lua", "prune_keys.lua");
pub(super) static STEP: LazyLock<Script> = script!(" flags=allow-oom", "steps", "step.lua");
pub(super) static IMPORT: LazyLock<Script> = script!("", "fills", "import.lua");

/// A script that stands alone, and runs where the others refuse to: in a bucket that is not known yet.
macro_rules! script_alone {
    ($file:literal) => {
        LazyLock::new(|| Script::new(concat!("#!lua flags=allow-oom\n", include_str!($file))))
    };
}

pub(super) static MEET: LazyLock<Script> = script_alone!("meet.lua");
pub(super) static ACCEPT: LazyLock<Script> = script_alone!("accept.lua");
pub(super) static PROBE: LazyLock<Script> = script_alone!("probe.lua");

/// All that work in a bucket.
pub(super) static WORKING: [&LazyLock<Script>; 25] = [
    &ADMIT,
    &CLAIM,
    &EXTEND,
    &SETTLE,
    &RELEASE,
    &ROUTE,
    &REDRIVE,
    &MOVE,
    &KILL,
    &ERASE,
    &UNBLOCK,
    &PRUNE,
    &STEP,
    &IMPORT,
    &BEGIN,
    &EXTEND_KEY,
    &COMPLETE,
    &ABANDON,
    &MARK_UNKNOWN,
    &RESOLVE,
    &PRUNE_KEYS,
    &CONTROL,
    &KEEP_REFUSALS,
    &NOTE_READMITTED,
    &PRUNE_REFUSALS,
];

/// One call of a script, on one bucket.
pub(super) struct Call {
    /// The script, for loading it where the server does not know it.
    pub(super) script: &'static Script,
    /// The command, complete.
    pub(super) command: Cmd,
}

impl Call {
    /// A call of `script` on the bucket of `session`, still without arguments. It does nothing in a
    /// bucket of another generation.
    pub(super) fn of(script: &'static Script, session: &Session) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(2).arg(session.bucket().head());
        command.arg(session.counter_key());
        Self { script, command }
    }

    /// A call of a script that stands alone, which works below `head`.
    pub(super) fn alone(script: &'static Script, head: &[u8]) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(1).arg(head);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// The commands in a text, where they stand behind `before` and in quotes.
    fn commands(text: &str, before: &str) -> BTreeSet<String> {
        let heads = text.split(before).skip(1);
        heads.filter_map(|head| Some(head.split('\'').next()?.to_owned())).collect()
    }

    #[test]
    fn every_command_of_a_script_is_tried_at_the_start() {
        let scripts = [
            include_str!("common.lua"),
            include_str!("admit.lua"),
            include_str!("claim.lua"),
            include_str!("extend.lua"),
            include_str!("settle.lua"),
            include_str!("release.lua"),
            include_str!("route.lua"),
            include_str!("redrive.lua"),
            include_str!("move.lua"),
            include_str!("kill.lua"),
            include_str!("erase.lua"),
            include_str!("unblock.lua"),
            include_str!("prune.lua"),
            include_str!("step.lua"),
            include_str!("import.lua"),
            include_str!("keyed.lua"),
            include_str!("begin.lua"),
            include_str!("extend_key.lua"),
            include_str!("complete.lua"),
            include_str!("abandon.lua"),
            include_str!("mark_unknown.lua"),
            include_str!("resolve.lua"),
            include_str!("prune_keys.lua"),
            include_str!("keep_refusals.lua"),
            include_str!("note_readmitted.lua"),
            include_str!("prune_refusals.lua"),
            include_str!("meet.lua"),
            include_str!("accept.lua"),
        ];
        let tried = commands(include_str!("probe.lua"), "{ '");
        for script in scripts {
            let untried: Vec<_> = commands(script, "call('").difference(&tried).cloned().collect();
            assert!(untried.is_empty(), "put {untried:?} into probe.lua");
        }
    }
}
