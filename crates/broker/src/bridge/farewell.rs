//! The end of a bridge's session at its remote, when the bridge could not end it itself: it was stopped, its link was down, or
//! what they spoke has no word for it.
//!
//! In: what the bridge dialled with. Out: one connection with a clean start and its end, which leaves nothing behind; or why
//! not. Each address is tried once. Must never: publish, or go on for longer than it may.

use tokio::time::timeout;
use viaduct_bridge::Address;

use super::BridgePlan;
use super::greet::{goodbye, visit};
use crate::limits::FAREWELL;

/// Ends the session of `plan`'s bridge at its remote, and says in the log whether that worked.
pub(super) async fn say(plan: &BridgePlan) {
    let name = &plan.settings.name;
    let why = match timeout(FAREWELL, end(plan)).await {
        Ok(Ok(address)) => return tracing::info!("bridge \"{name}\": its session at {address} is ended"),
        Ok(Err(why)) => why,
        Err(_) => format!("it took longer than {} s", FAREWELL.as_secs()),
    };
    tracing::warn!(
        "bridge \"{name}\": its session at the remote could not be ended and stays until it expires there: {why}"
    );
}

/// A clean session in its place ends with its connection: what was kept is given up, and nothing new is.
async fn end(plan: &BridgePlan) -> Result<&Address, String> {
    let settings = &plan.settings;
    let levels = settings.protocol.ladder(settings.try_private);
    let mut last = "there is no address".to_owned();
    for address in &settings.addresses {
        match visit(settings, address, &plan.way, &levels, &settings.client_id).await {
            Ok((level, mut transport)) => {
                goodbye(level, &mut transport);
                return Ok(address);
            }
            Err(answer) => last = answer.words(address, &plan.way),
        }
    }
    Err(last)
}
