//! What may be retained on each topic, from what was sent and what was acknowledged.
//!
//! In: changes in the order of their sending, acknowledgements. Out: whether what a new subscriber gets is the last
//! acknowledged change or a later one. Must never: forget a topic that was ever changed, because a cleared one may come back.

use std::collections::BTreeMap;

/// One topic. `None` is "nothing is retained".
#[derive(Debug, Default)]
struct Place {
    /// What was there when it was last looked at, or the last acknowledged change since.
    sure: Option<u64>,
    /// Changes after `sure` that were not acknowledged, in order: number and value.
    later: Vec<(u64, Option<u64>)>,
}

/// All topics.
#[derive(Debug, Default)]
pub(crate) struct Shelf(BTreeMap<String, Place>);

impl Shelf {
    pub(crate) fn changed(&mut self, topic: &str, number: u64, is_clearing: bool) {
        let value = (!is_clearing).then_some(number);
        self.0.entry(topic.to_owned()).or_default().later.push((number, value));
    }

    pub(crate) fn acknowledged(&mut self, topic: &str, number: u64) {
        let Some(place) = self.0.get_mut(topic) else { return };
        if let Some(index) = place.later.iter().position(|(change, _)| *change == number) {
            place.sure = place.later.drain(..=index).next_back().and_then(|(_, value)| value);
        }
    }

    /// Every topic on which what is `there` may not be there.
    pub(crate) fn wrong(&self, there: &BTreeMap<String, u64>) -> Vec<String> {
        let known = self.0.iter().filter_map(|(topic, place)| {
            let found = there.get(topic).copied();
            let is_good = found == place.sure || place.later.iter().any(|(_, value)| *value == found);
            let later: Vec<u64> = place.later.iter().map(|(number, _)| *number).collect();
            (!is_good).then(|| format!("{topic} retains {found:?}, owed {:?} or of later {later:?}", place.sure))
        });
        let unknown = there.keys().filter(|topic| !self.0.contains_key(*topic));
        known.chain(unknown.map(|topic| format!("{topic} retains what nobody sent"))).collect()
    }

    /// What was seen there is what is there from now on: nobody sends what is not acknowledged by now once more.
    pub(crate) fn settle(&mut self, there: &BTreeMap<String, u64>) {
        for (topic, place) in &mut self.0 {
            *place = Place { sure: there.get(topic).copied(), later: Vec::new() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
        entries.iter().map(|(topic, number)| ((*topic).to_owned(), *number)).collect()
    }

    #[test]
    fn the_last_acknowledged_change_or_a_later_one_is_there() {
        let mut shelf = Shelf::default();
        for number in 1..=3 {
            shelf.changed("r", number, false);
        }
        assert!(shelf.wrong(&there(&[])).is_empty(), "nothing was acknowledged");
        shelf.acknowledged("r", 2);
        for (number, is_good) in [(1, false), (2, true), (3, true), (4, false)] {
            assert_eq!(shelf.wrong(&there(&[("r", number)])).is_empty(), is_good, "{number}");
        }
        assert_eq!(shelf.wrong(&there(&[])).len(), 1, "lost");
        shelf.settle(&there(&[("r", 2)]));
        assert_eq!(shelf.wrong(&there(&[("r", 3)])).len(), 1, "it was looked at, and nothing was sent since");
    }

    #[test]
    fn what_was_cleared_does_not_come_back() {
        let mut shelf = Shelf::default();
        shelf.changed("r", 1, false);
        shelf.changed("r", 2, true);
        shelf.acknowledged("r", 1);
        assert!(shelf.wrong(&there(&[])).is_empty());
        shelf.acknowledged("r", 2);
        assert!(shelf.wrong(&there(&[])).is_empty());
        assert_eq!(shelf.wrong(&there(&[("r", 1)])).len(), 1);
        assert_eq!(shelf.wrong(&there(&[("x", 1)])).len(), 1, "nobody sent that");
    }
}
