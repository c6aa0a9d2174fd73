//! How a store stands when it moves house, and which steps lead where.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::store::StoreError;

/// How a store stands. The drawing in the module above says who moves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It serves, and no copy has to do with it.
    #[default]
    Serving,
    /// It admits, claims and begins nothing any more; what runs may end.
    HandingOver(Move),
    /// It refuses every write, and is copied.
    Sealed(Move),
    /// The other store serves in its place. There is no way back.
    Opened(Move),
    /// It is on its way back to serving, piece by piece: a store of several pieces passes through this.
    CalledOff(Move),
    /// It is being filled, and serves nobody yet.
    Filling(Move),
    /// It was filled, and serves.
    Filled(Move),
}

/// A copy, as both stores know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The copy's own id.
    pub id: Uuid,
    /// The other store, as a person would name it: without user and password.
    pub other: String,
}

/// One step of a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The source begins to hand over.
    HandOver(Move),
    /// The source is closed: nothing runs any more.
    Seal(Uuid),
    /// The source gives way: the target opens.
    Open(Uuid),
    /// The source serves again.
    CallOff(Uuid),
    /// The target is to be filled.
    Fill(Move),
    /// The target may serve.
    Finish(Uuid),
}

impl Standing {
    /// How a store that stands like this stands after `step`.
    ///
    /// # Errors
    /// [`StoreError::Moving`] when the step does not lead on from here, with what to do instead.
    pub fn after(&self, step: &Step) -> Result<Self, StoreError> {
        let done = match (self, step) {
            // The same step again.
            (
                Self::HandingOver(known) | Self::Sealed(known) | Self::Opened(known),
                Step::HandOver(asked),
            ) => known == asked,
            (Self::Sealed(known) | Self::Opened(known), Step::Seal(id)) => known.id == *id,
            (Self::Opened(known), Step::Open(id)) => known.id == *id,
            (Self::Serving | Self::Filled(_), Step::CallOff(_)) => true,
            (Self::Filling(known) | Self::Filled(known), Step::Fill(asked)) => known == asked,
            (Self::Filled(known), Step::Finish(id)) => known.id == *id,
            _ => false,
        };
        if done {
            return Ok(self.clone());
        }
        match (self, step) {
            (Self::Serving | Self::Filled(_), Step::HandOver(to)) => {
                Ok(Self::HandingOver(to.clone()))
            }
            (Self::HandingOver(known), Step::Seal(id)) if known.id == *id => {
                Ok(Self::Sealed(known.clone()))
            }
            (Self::Sealed(known), Step::Open(id)) if known.id == *id => {
                Ok(Self::Opened(known.clone()))
            }
            (
                Self::HandingOver(known) | Self::Sealed(known) | Self::CalledOff(known),
                Step::CallOff(id),
            ) if known.id == *id => Ok(Self::Serving),
            (Self::Serving, Step::Fill(from)) => Ok(Self::Filling(from.clone())),
            (Self::Filling(known), Step::Finish(id)) if known.id == *id => {
                Ok(Self::Filled(known.clone()))
            }
            _ => Err(self.refusal_or("it has nothing to do with that copy")),
        }
    }

    /// What whoever wants to serve from it is told or, where it serves, `otherwise`.
    pub fn refusal_or(&self, otherwise: &str) -> StoreError {
        self.refusal().unwrap_or_else(|| StoreError::Moving(otherwise.to_owned()))
    }

    /// What whoever wants to serve from such a store is told; `None` where it serves.
    pub fn refusal(&self) -> Option<StoreError> {
        let why = match self {
            Self::Serving | Self::Filled(_) => return None,
            Self::HandingOver(to) | Self::Sealed(to) => format!(
                "it is being handed over to {} by copy {}: run `hookonce store copy` to the end, or give \
                 it back with `--call-off`",
                to.other, to.id
            ),
            Self::Opened(to) => format!(
                "it was handed over to {} by copy {}: put the url of that store into `[store]`, and \
                 start again",
                to.other, to.id
            ),
            Self::CalledOff(to) => format!(
                "its copy {} to {} is being called off: run `hookonce store copy` with `--call-off` again",
                to.id, to.other
            ),
            Self::Filling(from) => format!(
                "it is being filled from {} by copy {}: run `hookonce store copy` to the end, or, if that \
                 copy was called off, empty this store",
                from.other, from.id
            ),
        };
        Some(StoreError::Moving(why))
    }

    /// Whether what runs may still end: settle, extend, release.
    pub fn lets_end(&self) -> bool {
        matches!(self, Self::Serving | Self::Filled(_) | Self::HandingOver(_))
    }

    /// The copy that has to do with it.
    pub fn copy(&self) -> Option<&Move> {
        match self {
            Self::Serving => None,
            Self::HandingOver(copy)
            | Self::Sealed(copy)
            | Self::Opened(copy)
            | Self::CalledOff(copy)
            | Self::Filling(copy)
            | Self::Filled(copy) => Some(copy),
        }
    }

    /// Whether records of this copy may be written into it.
    ///
    /// # Errors
    /// [`StoreError::Moving`] when it is not being filled by it.
    pub fn expect_filling(&self, copy: Uuid) -> Result<(), StoreError> {
        match self {
            Self::Filling(known) if known.id == copy => Ok(()),
            _ => Err(StoreError::Moving(format!("it is not being filled by copy {copy}"))),
        }
    }
}

/// As stores keep it: a word, the copy's id, the other store.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Serving => "serving",
            Self::HandingOver(_) => "handing-over",
            Self::Sealed(_) => "sealed",
            Self::Opened(_) => "opened",
            Self::CalledOff(_) => "called-off",
            Self::Filling(_) => "filling",
            Self::Filled(_) => "filled",
        };
        f.write_str(word)?;
        match self.copy() {
            Some(copy) => write!(f, " {} {}", copy.id, copy.other),
            None => Ok(()),
        }
    }
}

impl FromStr for Standing {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let unknown = || StoreError::Failed(format!("nobody here writes a standing `{text}`"));
        let mut parts = text.splitn(3, ' ');
        let word = parts.next().unwrap_or_default();
        if word == "serving" {
            return Ok(Self::Serving);
        }
        let id = parts.next().and_then(|id| id.parse().ok()).ok_or_else(unknown)?;
        let copy = Move { id, other: parts.next().unwrap_or_default().to_owned() };
        Ok(match word {
            "handing-over" => Self::HandingOver(copy),
            "sealed" => Self::Sealed(copy),
            "opened" => Self::Opened(copy),
            "called-off" => Self::CalledOff(copy),
            "filling" => Self::Filling(copy),
            "filled" => Self::Filled(copy),
            _ => return Err(unknown()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_move(id: u128) -> Move {
        Move { id: Uuid::from_u128(id), other: "redis://127.0.0.1:6379/0 (b)".to_owned() }
    }

    fn all() -> [Standing; 7] {
        [
            Standing::Serving,
            Standing::HandingOver(a_move(1)),
            Standing::Sealed(a_move(1)),
            Standing::Opened(a_move(1)),
            Standing::CalledOff(a_move(1)),
            Standing::Filling(a_move(1)),
            Standing::Filled(a_move(1)),
        ]
    }

    #[test]
    fn what_is_kept_is_read_back() {
        for standing in all() {
            assert_eq!(standing.to_string().parse(), Ok(standing));
        }
    }

    #[test]
    fn every_step_of_a_move_leads_on_and_is_done_once() {
        let id = Uuid::from_u128(1);
        let source = [Step::HandOver(a_move(1)), Step::Seal(id), Step::Open(id)];
        let target = [Step::Fill(a_move(1)), Step::Finish(id)];
        for steps in [source.as_slice(), &target] {
            let mut standing = Standing::Serving;
            for step in steps {
                let after = standing.after(step).expect("it leads on");
                assert_ne!(after, standing, "{step:?}");
                assert_eq!(after.after(step), Ok(after.clone()), "again: {step:?}");
                standing = after;
            }
        }
    }

    #[test]
    fn a_source_is_given_back_until_the_target_opens() {
        let call_off = Step::CallOff(Uuid::from_u128(1));
        for standing in [Standing::HandingOver(a_move(1)), Standing::Sealed(a_move(1))] {
            assert_eq!(standing.after(&call_off), Ok(Standing::Serving));
        }
        assert!(Standing::Opened(a_move(1)).after(&call_off).is_err());
        assert!(Standing::Filling(a_move(1)).after(&call_off).is_err());
    }

    #[test]
    fn another_copy_changes_nothing_in_the_middle_of_one() {
        let other = Uuid::from_u128(2);
        let steps = [
            Step::HandOver(a_move(2)),
            Step::Seal(other),
            Step::Open(other),
            Step::CallOff(other),
            Step::Fill(a_move(2)),
            Step::Finish(other),
        ];
        for standing in all() {
            if matches!(standing, Standing::Serving | Standing::Filled(_)) {
                continue;
            }
            for step in &steps {
                assert!(standing.after(step).is_err(), "{standing} {step:?}");
            }
        }
    }

    #[test]
    fn nothing_is_opened_that_is_not_sealed() {
        assert!(Standing::HandingOver(a_move(1)).after(&Step::Open(Uuid::from_u128(1))).is_err());
        assert!(Standing::Serving.after(&Step::Finish(Uuid::from_u128(1))).is_err());
    }
}
