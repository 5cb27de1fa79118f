//! What a bridge would do whose remote turns out to be this broker itself.
//!
//! In: its rules. Out: the two that carry what they brought once more, for ever. Must never: find fault with rules that only
//! give topics another name.

use viaduct_codec::TopicFilter;

use crate::check_bridge::meet;
use crate::model::{Bridge, BridgeTopic};

impl Bridge {
    /// Where messages would go in circles if the remote were this broker: what one rule writes, a rule reads again. `None` when
    /// they would not, or when `allow_loop` of both rules says that they may.
    #[must_use]
    pub fn circle(&self) -> Option<String> {
        self.topics.iter().find_map(|rule| {
            let read_again = |to: &TopicFilter| self.topics.iter().find_map(|other| reads(other, to, rule.allow_loop));
            ways(rule).into_iter().flatten().find_map(|(_, to)| {
                let from = read_again(to)?;
                Some(format!("what the bridge writes to \"{to}\" it reads again as \"{from}\""))
            })
        })
    }
}

/// From where and to where a rule carries when both sides are one broker.
fn ways(rule: &BridgeTopic) -> [Option<(&TopicFilter, &TopicFilter)>; 2] {
    let way_out = rule.direction.is_out().then_some((&rule.local, &rule.remote));
    let way_in = rule.direction.is_in().then_some((&rule.remote, &rule.local));
    [way_out, way_in]
}

/// The filter by which `rule` reads something that was written to `to`.
fn reads<'a>(rule: &'a BridgeTopic, to: &TopicFilter, allowed: bool) -> Option<&'a TopicFilter> {
    let from = ways(rule).into_iter().flatten().map(|(from, _)| from).find(|from| meet(from, to));
    from.filter(|_| !(allowed && rule.allow_loop))
}
