//! What an answer of the upstream means for its key.

use crate::api::Save;

/// What becomes of a key that got an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is saved: later requests get it again.
    Save,
    /// The key is free: the work was not done, and may be tried again.
    Free,
    /// Whoever answered does not know whether the work was done.
    Unknown,
}

/// What becomes of a key whose request was answered with `status`.
///
/// 409, 425, 429 and 503 say "not now", so they are never saved. 502 and 504 come from somebody between
/// the upstream and us who waited in vain, as we might have ourselves.
pub fn verdict(save: Save, status: u16) -> Verdict {
    let is_saved = match status {
        409 | 425 | 429 | 503 => return Verdict::Free,
        ..200 | 502 | 504 => return Verdict::Unknown,
        200..=299 => true,
        300..=499 => matches!(save, Save::Final | Save::All),
        500.. => save == Save::All,
    };
    if is_saved { Verdict::Save } else { Verdict::Free }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_verdict() {
        use Verdict::{Free, Save as Saved, Unknown};
        for (status, success, final_, all) in [
            (101, Unknown, Unknown, Unknown),
            (200, Saved, Saved, Saved),
            (201, Saved, Saved, Saved),
            (299, Saved, Saved, Saved),
            (303, Free, Saved, Saved),
            (400, Free, Saved, Saved),
            (402, Free, Saved, Saved),
            (409, Free, Free, Free),
            (422, Free, Saved, Saved),
            (425, Free, Free, Free),
            (429, Free, Free, Free),
            (500, Free, Free, Saved),
            (501, Free, Free, Saved),
            (502, Unknown, Unknown, Unknown),
            (503, Free, Free, Free),
            (504, Unknown, Unknown, Unknown),
            (599, Free, Free, Saved),
        ] {
            assert_eq!(verdict(Save::Success, status), success, "{status}");
            assert_eq!(verdict(Save::Final, status), final_, "{status}");
            assert_eq!(verdict(Save::All, status), all, "{status}");
        }
    }
}
