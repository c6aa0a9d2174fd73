//! The one place that prints: text for people, JSON for programs.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// How a command says what it found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether to print JSON.
    pub(crate) json: bool,
}

impl Output {
    /// Prints `data` as JSON, or else what `text` makes of it. A stranger's text in it drives no terminal.
    pub(crate) fn show<T: Serialize + ?Sized>(
        self,
        data: &T,
        text: impl FnOnce(&T) -> String,
    ) -> io::Result<()> {
        if self.json {
            let mut json = serde_json::to_vec_pretty(data)?;
            json.push(b'\n');
            self.raw(&json)
        } else {
            self.line(harmless(&text(data)).trim_end())
        }
    }

    /// Prints `data` as one line of JSON.
    pub(crate) fn json_line<T: Serialize>(self, data: &T) -> io::Result<()> {
        let mut json = serde_json::to_vec(data)?;
        json.push(b'\n');
        self.raw(&json)
    }

    /// Prints a line.
    pub(crate) fn line(self, text: &str) -> io::Result<()> {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// Prints bytes as they are. A reader that has gone away (`| head`) is no error.
    pub(crate) fn raw(self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Shows on stderr how far `total` steps have come, once it takes long enough to wonder.
    pub(crate) fn progress(self, total: u64) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{msg}{wide_bar} {human_pos}/{human_len} {eta}");
        Progress(bar.with_style(style.expect("the template is well formed")))
    }

    /// Writes an error to stderr, with what led to it.
    #[expect(clippy::print_stderr, reason = "this is the one place that prints")]
    pub(crate) fn tell_error(error: &anyhow::Error) {
        eprintln!("error: {error:#}");
    }

    /// Writes a remark to stderr, where it does not get into what a program reads.
    #[expect(clippy::print_stderr, reason = "this is the one place that prints")]
    pub(crate) fn remark(self, text: &str) {
        eprintln!("{text}");
    }
}

/// A bar on stderr. It is not drawn where stderr is no terminal, nor in the first second.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// One step more is done.
    pub(crate) fn advance(&self) {
        self.0.inc(1);
        self.draw_if_worth_it();
    }

    /// It is at `what`, and so far with it.
    pub(crate) fn stand_at(&self, what: &'static str, done: u64, total: u64) {
        self.0.set_message(format!("{what} "));
        self.0.set_length(total);
        self.0.set_position(done);
        self.draw_if_worth_it();
    }

    fn draw_if_worth_it(&self) {
        if self.0.is_hidden() && self.0.elapsed() > PROGRESS_AFTER && io::stderr().is_terminal() {
            self.0.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.0.finish_and_clear();
    }
}

const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// A stranger's text, with everything escaped that could make a terminal show something else than is
/// there: control characters, and those that turn the direction of writing.
fn harmless(text: &str) -> String {
    let turns = |char| matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if (char.is_control() && !matches!(char, '\n' | '\t')) || turns(char) {
            shown.extend(char.escape_unicode());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// A table without lines, as wide as the terminal, or as its content where there is none.
pub(crate) fn table<'a>(heads: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(heads.into_iter().map(str::to_uppercase));
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_cannot_drive_the_terminal() {
        let shown = harmless("a\u{1b}[31m\r\u{9b}\u{202e}é\n");
        assert_eq!(shown, "a\\u{1b}[31m\\u{d}\\u{9b}\\u{202e}é\n");
    }
}
