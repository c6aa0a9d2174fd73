//! What is wished of all deliveries of a handler: one wish changes only so many, so it is wished again.

use std::collections::BTreeSet;

use hookonce::admin::Changed;

use super::{events::changed, output::Output};

/// Wishes again while there is more, and prints all that was changed, also where it broke off half-way.
pub(super) async fn until_all(
    output: Output,
    mut wish: impl AsyncFnMut() -> anyhow::Result<Changed>,
) -> anyhow::Result<()> {
    let mut all = wish().await?;
    let mut known: BTreeSet<_> = all.deliveries.iter().copied().collect();
    let mut ended = Ok(());
    while all.more {
        if !output.json {
            output.remark(&format!("{} deliveries so far", known.len()));
        }
        let lot = match wish().await {
            Ok(lot) => lot,
            Err(error) => {
                ended = Err(error);
                break;
            }
        };
        let known_before = known.len();
        all.deliveries.extend(lot.deliveries.into_iter().filter(|id| known.insert(*id)));
        all.more = lot.more;
        // What is redriven may die again as fast: then this would go on for ever.
        if known.len() == known_before {
            break;
        }
    }
    output.show(&all, changed)?;
    ended
}
