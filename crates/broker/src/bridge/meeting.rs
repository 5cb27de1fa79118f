//! The bridges of other brokers that one of ours meets, and the question whether they are its remote's own.
//!
//! In: who is here ([`Guests`]), and when the link is dialled, is up and ends. Out: what the remote says of those that it has not
//! been asked about, and whether the link has to wait for that. Must never: hold a link for a remote that does not answer.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::timeout;
use viaduct_bridge::{Address, DialError, Probed, Rules};
use viaduct_codec::{ClientId, Level, Time};

use super::BridgePlan;
use super::dial::Way;
use super::greet::{self, Whose};
use crate::guests::{Guests, Met, OwnLink};
use crate::limits::{GUEST_AGAIN, GUEST_LOOK, GUEST_PATIENCE, GUEST_SETTLES, GUESTS_NAMED, GUESTS_REMEMBERED};

type Look = Pin<Box<dyn Future<Output = Whose>>>;

/// Those of one link.
pub(super) struct Meeting {
    guests: Arc<Guests>,
    plan: Rc<BridgePlan>,
    /// As long as the bridge runs.
    _own: Option<OwnLink>,
    changed: Pin<Box<dyn Future<Output = ()>>>,
    /// What was last heard of them on the present link.
    news: Option<u64>,
    /// Those that the remote was asked about for the present link, and when.
    asked: BTreeMap<ClientId, Time>,
    /// When it is asked again about those that had only just come: their broker may not have said that they are there.
    early: Option<Time>,
    /// While it is asked about those that came since: about whom, and when that began. One question behind the other is one.
    look: Option<Look>,
    asking: Vec<ClientId>,
    began: Option<Time>,
    /// When the remote was dialled it gave no answer.
    unanswered: Rc<Cell<bool>>,
    /// When it is asked again because it gave none, and how long it is let alone after the next such time.
    again: Option<Time>,
    pause: Duration,
    /// That it gave none was said.
    told: bool,
    /// Nothing is carried while it is asked; but not on a link whose remote was slow to answer: guests would hold it for ever.
    holds: bool,
}

/// What came.
pub(super) enum Came {
    /// Perhaps guests.
    Guests,
    /// The answer of the remote.
    Answer(Whose),
}

impl Meeting {
    pub(super) fn new(guests: &Arc<Guests>, plan: &Rc<BridgePlan>, rules: Option<Arc<Rules>>) -> Self {
        let may_speak_5 = plan.settings.protocol.ladder(false).iter().any(|level| level.version().is_v5());
        Self {
            _own: guests.host(&plan.settings.name, rules, may_speak_5),
            changed: guests.next_change(),
            guests: Arc::clone(guests),
            plan: Rc::clone(plan),
            news: None,
            asked: BTreeMap::new(),
            early: None,
            look: None,
            asking: Vec::new(),
            began: None,
            unanswered: Rc::default(),
            again: None,
            pause: GUEST_AGAIN.0,
            told: false,
            holds: true,
        }
    }

    /// Whether nothing may be carried until the remote has answered.
    pub(super) const fn holds_link(&self) -> bool {
        self.holds && self.look.is_some()
    }

    /// When the remote is asked again.
    pub(super) fn due(&self) -> Option<Time> {
        [self.again, self.early].into_iter().flatten().min()
    }

    /// Whether it is time for that now.
    pub(super) fn take_due(&mut self, now: Time) -> bool {
        let due = [&mut self.again, &mut self.early].map(|due| due.take_if(|due| *due <= now));
        due.iter().any(Option::is_some)
    }

    /// A link is dialled: asks about all that are met before. An error when one of them is the remote's.
    pub(super) fn before_dial(
        &mut self,
        now: Time,
        address: Address,
        way: Rc<Way>,
        level: Level,
    ) -> impl Future<Output = Result<(), DialError>> + use<> {
        let plan = Rc::clone(&self.plan);
        let met = self.guests.met_by(&plan.settings.name, level.version().is_v5());
        (self.look, self.began) = (None, None);
        self.asked = met.iter().map(|one| (one.client_id.clone(), now)).collect();
        (self.holds, self.told, self.again, self.early, self.pause) = (true, false, None, None, GUEST_AGAIN.0);
        self.unanswered.set(false);
        let unanswered = Rc::clone(&self.unanswered);
        async move {
            let asker = greet::asker_id(&plan.settings);
            match greet::whose(&plan.settings, &address, &way, level, &asker, &met).await? {
                Whose::Its(found) => return Err(DialError::LinksBack(found.words())),
                Whose::NotIts => {}
                // It may be what the bridge itself will say better.
                Whose::Unknown(_) => unanswered.set(true),
            }
            Ok(())
        }
    }

    /// Whether `address` would take the bridge: not when one of those that are met is of there.
    pub(super) fn probe(
        &self,
        address: Address,
        way: Rc<Way>,
        levels: Vec<Level>,
    ) -> impl Future<Output = Probed> + use<> {
        let (guests, plan) = (Arc::clone(&self.guests), Rc::clone(&self.plan));
        async move {
            let settings = &plan.settings;
            let met = |level: Level| guests.met_by(&settings.name, level.version().is_v5());
            greet::probe(settings, &address, &way, &levels, met).await
        }
    }

    /// The link has come about.
    pub(super) fn dialled(&mut self) {
        if self.unanswered.get() {
            // It is asked once more beside the link.
            self.asked.clear();
            self.holds = false;
        }
    }

    /// Whether there may be guests that were not looked at on a link that `is_up`.
    pub(super) fn has_news(&mut self, is_up: bool) -> bool {
        let news = is_up.then(|| self.guests.news());
        std::mem::replace(&mut self.news, news) != news
    }

    /// Asks the remote, to which a link is up, about those that it was not asked about.
    pub(super) fn ask(&mut self, now: Time, address: Address, way: Rc<Way>, level: Level) {
        if self.look.is_some() || self.again.is_some() {
            return;
        }
        let mut met: Vec<Met> = self.guests.met_by(&self.plan.settings.name, level.version().is_v5());
        let settles = |one: &Met| one.came.after(GUEST_SETTLES);
        met.retain(|one| self.asked.get(&one.client_id).is_none_or(|asked| *asked < settles(one)));
        let is_early = |one: &&Met| self.asked.contains_key(&one.client_id) && now < settles(one);
        self.early = met.iter().filter(is_early).map(settles).min();
        met.retain(|one| !is_early(&one));
        if met.is_empty() {
            self.began = None;
            return;
        }
        if self.asked.len() >= GUESTS_REMEMBERED {
            self.asked.clear();
        }
        self.began.get_or_insert(now);
        self.asking = met.iter().map(|one| one.client_id.clone()).collect();
        self.asked.extend(self.asking.iter().map(|one| (one.clone(), now)));
        let plan = Rc::clone(&self.plan);
        self.look = Some(Box::pin(async move {
            let asker = greet::asker_id(&plan.settings);
            let look = greet::whose(&plan.settings, &address, &way, level, &asker, &met);
            match timeout(GUEST_LOOK, look).await {
                Ok(Ok(whose)) => whose,
                Ok(Err(error)) => Whose::Unknown(error.at(&address.host, way.step).to_string()),
                Err(_) => Whose::Unknown("it does not answer in time".to_owned()),
            }
        }));
    }

    /// The remote's answer; the guest that is its own bridge, if one is.
    pub(super) fn answered(&mut self, now: Time, answer: Whose) -> Option<Met> {
        self.look = None;
        match answer {
            Whose::Its(found) => return Some(found),
            Whose::NotIts => {
                self.holds &= self.began.is_none_or(|began| now < began.after(GUEST_PATIENCE));
                self.pause = GUEST_AGAIN.0;
            }
            Whose::Unknown(why) => self.ask_later(now, &why),
        }
        None
    }

    /// The remote is asked again, ever less often, and the link goes on meanwhile: there are remotes that never answer, and guests
    /// that are none of theirs.
    fn ask_later(&mut self, now: Time, why: &str) {
        let asking = std::mem::take(&mut self.asking);
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                "bridge \"{}\": it can't be found out whether the bridges that are connected here as {:?} come from the remote: {why}. If \
                 one does, what both carry comes twice or goes in circles; let the ClientID \"{}\" in there and subscribe to \
                 $SYS/broker/connection/#, or set `dollar_topics = false` in `remote` of this bridge, or `allow_loop = true` on the \
                 rules, to ask no more",
                self.plan.settings.name,
                asking.iter().take(GUESTS_NAMED).map(ClientId::as_str).collect::<Vec<_>>(),
                greet::asker_id(&self.plan.settings),
            );
        }
        for one in asking {
            self.asked.remove(&one);
        }
        (self.holds, self.began) = (false, None);
        self.again = Some(now.after(self.pause));
        self.pause = (self.pause * 2).min(GUEST_AGAIN.1);
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        if let Some(look) = &mut self.look
            && let Poll::Ready(answer) = look.as_mut().poll(cx)
        {
            return Poll::Ready(Came::Answer(answer));
        }
        if self.changed.as_mut().poll(cx).is_ready() {
            self.changed = self.guests.next_change();
            return Poll::Ready(Came::Guests);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::{BridgeStatus, plan};
    use crate::guests::Guest;
    use crate::guests::tests::bridge_at;
    use viaduct_codec::TopicFilter;
    use viaduct_config::{Source, SourceFile, load};
    use viaduct_engine::Way as _;

    const LONG_AGO: Time = Time::from_millis(1_000);

    struct Rig {
        guests: Arc<Guests>,
        plan: Rc<BridgePlan>,
        meeting: Meeting,
        now: Time,
        here: Vec<Guest>,
    }

    impl Rig {
        fn new() -> Self {
            let text = "[[bridge]]\nname = \"b\"\nurl = \"mqtt://h\"\n[[bridge.topic]]\nfilter = \"a/#\"\n".to_owned();
            let file = Some(SourceFile { name: "test".into(), text });
            let config = load(Source { file, ..Source::default() }).unwrap().config;
            let plan = Rc::new(plan(&config, &config.bridges[0], "here", BridgeStatus::new("b")).unwrap());
            let guests = Guests::new();
            let rules = Rules::new(&plan.settings).ok().map(Arc::new);
            let meeting = Meeting::new(&guests, &plan, rules);
            let mut rig =
                Self { guests, plan, meeting, now: LONG_AGO.after(Duration::from_secs(3600)), here: Vec::new() };
            drop(rig.meeting.before_dial(rig.now, rig.address(), rig.way(), Level::V311));
            rig.meeting.dialled();
            rig
        }

        fn address(&self) -> Address {
            self.plan.settings.addresses[0].clone()
        }

        fn way(&self) -> Rc<Way> {
            Rc::new(self.plan.way.clone())
        }

        /// A guest that the bridge meets.
        fn come(&mut self, came: Time, client_id: &str) {
            let guest = bridge_at(&self.guests, came, client_id, Level::V311_BRIDGE);
            guest.asks(&TopicFilter::new("a/b").unwrap(), true);
            self.here.push(guest);
        }

        fn pass(&mut self, milliseconds: u64) {
            self.now = self.now.after(Duration::from_millis(milliseconds));
            if self.meeting.take_due(self.now) {
                self.ask();
            }
        }

        /// Whether somebody is asked about now.
        fn ask(&mut self) -> bool {
            let (address, way) = (self.address(), self.way());
            self.meeting.ask(self.now, address, way, Level::V311);
            self.meeting.look.is_some()
        }

        fn answer(&mut self, whose: Whose) {
            assert!(self.meeting.answered(self.now, whose).is_none());
            self.ask();
        }
    }

    #[test]
    fn guests_that_come_one_behind_the_other_hold_the_link_no_longer_than_a_slow_remote_does() {
        let mut rig = Rig::new();
        for number in 0..20 {
            rig.come(LONG_AGO, &format!("alone {number}"));
            assert!(rig.ask() && rig.meeting.holds_link());
            rig.pass(300);
            rig.answer(Whose::NotIts);
            assert!(!rig.meeting.holds_link(), "between two questions it carries");
        }
        let begin = rig.now;
        rig.come(LONG_AGO, "row");
        assert!(rig.ask());
        for number in 0.. {
            if !rig.meeting.holds_link() {
                break;
            }
            assert!(rig.now <= begin.after(GUEST_PATIENCE));
            rig.come(LONG_AGO, &format!("row {number}"));
            rig.pass(300);
            rig.answer(Whose::NotIts);
        }
        assert!(rig.meeting.look.is_some(), "they are asked about all the same");
    }

    #[test]
    fn a_remote_that_has_answered_again_is_not_let_alone_for_what_it_did_before() {
        let mut rig = Rig::new();
        let silent = || Whose::Unknown("silence".to_owned());
        rig.come(LONG_AGO, "x");
        assert!(rig.ask());
        for times in [1, 2, 4] {
            rig.answer(silent());
            assert_eq!(rig.meeting.due(), Some(rig.now.after(GUEST_AGAIN.0 * times)));
            rig.pass(5_000 * u64::from(times));
            assert!(rig.meeting.look.is_some());
        }
        rig.answer(Whose::NotIts);
        assert_eq!(rig.meeting.due(), None);
        rig.come(LONG_AGO, "y");
        assert!(rig.ask());
        rig.answer(silent());
        assert_eq!(rig.meeting.due(), Some(rig.now.after(GUEST_AGAIN.0)));
    }

    #[test]
    fn a_guest_that_has_only_just_come_is_asked_about_once_more_and_so_is_one_that_comes_again() {
        let mut rig = Rig::new();
        rig.come(LONG_AGO, "old");
        rig.come(rig.now, "new");
        assert!(rig.ask());
        rig.answer(Whose::NotIts);
        for _ in 0..2 {
            assert_eq!(rig.meeting.due(), Some(rig.now.after(GUEST_SETTLES)));
            rig.pass(4_999);
            assert!(rig.meeting.look.is_none());
            rig.pass(1);
            assert!(rig.meeting.look.is_some());
            assert_eq!(rig.meeting.asking, [ClientId::from("new")]);
            rig.answer(Whose::NotIts);
            assert_eq!(rig.meeting.due(), None);
            rig.here.pop();
            rig.come(rig.now, "new");
            assert!(!rig.ask());
        }
    }
}
