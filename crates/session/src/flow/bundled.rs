//! Messages of a run that went out together: one exchange for all of them, for as long as they are answered in their turn.
//!
//! In: a bundle, the identifiers that it went out with, and what the store keeps of it; answers. Out: how many of them are over, or
//! all that are left, by themselves. Whatever disturbs this (a cut, an answer out of turn, another message behind them) makes
//! exchanges like any other of them, and the rules for these hold.

use std::collections::VecDeque;
use std::sync::Arc;

use viaduct_codec::{AckedMessage, AckedRun, Bundle, Kept, PacketId, Places, PlainAck, QoS, SubscriptionIds, VarInt};

use super::{Flow, Terms};
use crate::delivery::Delivery;
use crate::limits::IDLE_ROWS;
use crate::output::Output;

/// What went out so on this connection, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Bundled {
    rows: VecDeque<Row>,
    /// Messages of all that are not answered.
    open: usize,
}

#[derive(Debug)]
struct Row {
    bundle: Arc<Bundle>,
    places: Option<Places>,
    first: PacketId,
    /// How many of its messages, which is at least one.
    count: u16,
    /// How many of these, from the first, are answered; never all.
    settled: u16,
}

impl Bundled {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether there is not even memory for more.
    pub(crate) fn is_unused(&self) -> bool {
        self.rows.capacity() == 0
    }

    /// Messages that are not answered.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// `count` messages went out, under the identifiers from `first` on.
    pub(crate) fn push(&mut self, bundle: Arc<Bundle>, places: Option<Places>, first: PacketId, count: u16) {
        self.rows.push_back(Row { bundle, places, first, count, settled: 0 });
        self.open += usize::from(count);
    }

    /// Settles those that PUBACKs at the beginning of `bytes` answer in their turn: the first identifier, how many there are, and how
    /// many of them the store had written already. `None` when the first is for something else.
    pub(crate) fn settle(&mut self, bytes: &[u8]) -> Option<(PacketId, u16, u32)> {
        let row = self.rows.front_mut()?;
        let next = row.next()?;
        let ids = (next.get()..=u16::MAX).take(usize::from(row.count - row.settled));
        let count = u16::try_from(PlainAck::pubacks_in_turn(bytes, ids)).ok()?;
        if count == 0 {
            return None;
        }
        row.settled += count;
        self.open -= usize::from(count);
        let late = row.places.as_mut().map_or(0, |places| places.settle(count.into()));
        if row.settled == row.count {
            self.rows.pop_front();
            if self.rows.is_empty() && self.rows.capacity() > IDLE_ROWS {
                self.rows = VecDeque::new();
            }
        }
        Some((next, count, late))
    }

    /// Whether an answer under this identifier is still to come.
    pub(crate) fn awaits(&self, id: PacketId) -> bool {
        let is_open = |row: &Row| {
            let place = id.get().checked_sub(row.first.get());
            place.is_some_and(|place| (row.settled..row.count).contains(&place))
        };
        self.rows.iter().any(is_open)
    }

    /// All that are left, in order, each by itself.
    pub(crate) fn each(self) -> impl Iterator<Item = (PacketId, Delivery)> {
        self.rows.into_iter().flat_map(|row| {
            let Row { bundle, places, first, count, settled } = row;
            let messages: Vec<_> = bundle.messages(settled.into()).take(usize::from(count - settled)).collect();
            let mut places = places.map(Places::each);
            let ids = (first.get()..=u16::MAX).skip(settled.into()).filter_map(PacketId::new);
            ids.zip(messages).map(move |(id, message)| {
                let kept = places.as_mut().and_then(Iterator::next);
                let ids = SubscriptionIds::default();
                (id, Delivery { message, qos: QoS::AtLeastOnce, retain: false, ids, group: None, kept })
            })
        })
    }
}

impl Row {
    /// The identifier that is answered next.
    fn next(&self) -> Option<PacketId> {
        PacketId::new(self.first.get().checked_add(self.settled)?)
    }
}

impl Flow {
    /// Whether `count` messages of QoS 1 may go out together now, in packets of at most `largest` bytes: nothing stands before them,
    /// and they are not alone.
    pub(crate) fn takes_bundle(&self, count: usize, largest: usize) -> bool {
        // Whoever names no limit takes what the wire can say the length of, and 5.0 says a byte more than 3.x.
        let most = |terms: &Terms| terms.maximum_packet_size.min(VarInt::MAX.get()) as usize;
        let takes = |terms: &Terms| terms.aliases_out == 0 && largest <= most(terms);
        (count > 1 || self.is_bundled())
            && !self.answers_out_of_turn
            && self.terms().is_some_and(takes)
            && count <= self.outbound.room()
            && self.outbound.is_next_new()
    }

    /// Sends these messages, which are those of `bundle`, together, for the first time; they are owed as entry `index` of each in
    /// `kept` says. Only what [`Flow::takes_bundle`]; `false`, and nothing was done, when their identifiers would not follow
    /// each other, or the store has written them already.
    pub(crate) fn send_bundle(
        &mut self,
        bundle: &Arc<Bundle>,
        messages: &[AckedMessage<'_>],
        kept: Option<(&Arc<Kept>, u32)>,
        out: &mut Output,
    ) -> bool {
        let (Some(link), Ok(count)) = (&self.link, u16::try_from(messages.len())) else { return false };
        let Some(first) = self.ids.next_row(count) else { return false };
        if kept.is_some_and(|(kept, index)| !kept.note_sent(index, first)) {
            return false;
        }
        self.ids.take_row(first, count);
        let like = bundle.like();
        let user_properties = like.properties.as_ref().map_or(&[][..], |own| &own.user_properties);
        AckedRun::write_anew(messages, like.topic.by_ref(), link.terms.version, user_properties, first, out.buffer());
        let places = kept.map(|(kept, index)| kept.every(index));
        self.outbound.lend(messages.len());
        self.aside.get_or_insert_default().bundled.push(Arc::clone(bundle), places, first, count);
        if let Some(sent) = self.counts.sent.get_mut(usize::from(QoS::AtLeastOnce.bits())) {
            *sent += u32::from(count);
        }
        true
    }

    /// How many PUBACKs at the beginning of `bytes` answer in turn for what went out together.
    #[inline]
    pub(crate) fn pubacks_in_turn(&mut self, bytes: &[u8]) -> usize {
        let Some(aside) = &mut self.aside else { return 0 };
        let Some((first, count, late)) = aside.bundled.settle(bytes) else { return 0 };
        self.ids.release_row(first, count);
        self.outbound.give_back(count);
        self.counts.late += late;
        count.into()
    }

    /// Whether something went out together and is not answered.
    pub(crate) fn is_bundled(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| !aside.bundled.is_empty())
    }

    /// Makes exchanges of all that went out together.
    pub(super) fn unbundle(&mut self) {
        if !self.is_bundled() {
            return;
        }
        let bundled = self.aside.as_mut().map(|aside| std::mem::take(&mut aside.bundled)).unwrap_or_default();
        for (id, delivery) in bundled.each() {
            self.outbound.adopt_last(id, delivery);
        }
        self.put_aside_away();
    }

    /// An answer came that may be out of turn.
    pub(super) fn look_into_bundles(&mut self, id: PacketId) {
        if self.aside.as_ref().is_some_and(|aside| aside.bundled.awaits(id)) {
            self.unbundle();
            self.answers_out_of_turn = true;
        }
    }

    pub(super) fn put_aside_away(&mut self) {
        if self.aside.as_ref().is_some_and(|aside| aside.notes.is_empty() && aside.bundled.is_unused()) {
            self.aside = None;
        }
    }
}
