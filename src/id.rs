//! Ids of our own: 16 bytes, unique over all processes, whose order is the order of time.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::clock::Timestamp;

/// Defines a type of ids, so that one of an event cannot be taken for one of a delivery.
macro_rules! id {
    ($(#[$attribute:meta])* $name:ident) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// A new id, later than every one made before at an earlier `now`.
            pub fn new(now: $crate::clock::Timestamp) -> Self {
                Self($crate::id::time_ordered(now))
            }

            /// What is not after any id made at `time`, and after all made before.
            pub fn first_at(time: $crate::clock::Timestamp) -> Self {
                Self($crate::id::first_at(time))
            }

            /// Its 16 bytes; their order is the order of time.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id with these 16 bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(uuid::Uuid::from_bytes(bytes))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

pub(crate) use id;

/// A UUID of version 7: milliseconds first, then random bits.
pub(crate) fn time_ordered(now: Timestamp) -> Uuid {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    let seconds = millis / 1000;
    let nanos = u32::try_from(millis % 1000).unwrap_or(0) * 1_000_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
}

/// What always follows from these 16 bytes and these parts: as old as the bytes say, and as random as they
/// are.
pub(crate) fn derived(from: &[u8; 16], parts: &[&[u8]]) -> Uuid {
    let mut bytes = *from;
    let mut hash = Sha256::new();
    hash.update(from);
    parts.iter().for_each(|part| hash.update(part));
    // Behind the 48 bits of the time; version and variant stay what they are in any such id.
    for (byte, random) in bytes.iter_mut().zip(hash.finalize()).skip(6) {
        *byte = random;
    }
    uuid::Builder::from_bytes(bytes).with_version(uuid::Version::SortRand).into_uuid()
}

/// The milliseconds alone, and no bit more.
pub(crate) fn first_at(time: Timestamp) -> Uuid {
    let millis = u64::try_from(time.as_millis()).unwrap_or(0);
    Uuid::from_u128(u128::from(millis) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time() {
        let early = time_ordered(Timestamp::from_seconds(1_700_000_000));
        let late = time_ordered(Timestamp::from_millis(1_700_000_000_001));
        assert!(early < late);
        assert!(early < first_at(Timestamp::from_millis(1_700_000_000_001)));
        assert!(first_at(Timestamp::from_millis(1_700_000_000_001)) < late);
    }
}
