//! The bridges of other brokers that one of ours meets, and the question whether they are its remote's own.
//!
//! In: who is here ([`Guests`]), and when the link is dialled, is up and ends. Out: what the remote says of those that it has not
//! been asked about, and whether the link has to wait for that. Must never: hold a link for a remote that does not answer.

use std::cell::Cell;
use std::collections::BTreeSet;
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
use crate::limits::{GUEST_AGAIN, GUEST_LOOK, GUEST_PATIENCE, GUESTS_NAMED, GUESTS_REMEMBERED};

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
    /// Those that the remote was asked about, for the present link.
    asked: BTreeSet<ClientId>,
    /// While it is asked about those that came since: about whom, and when that began.
    look: Option<Look>,
    asking: Vec<ClientId>,
    began: Time,
    /// When the remote was dialled it gave no answer.
    unanswered: Rc<Cell<bool>>,
    /// When it is asked again because it gave none, and how long it is let alone after the next such time.
    again: Option<Time>,
    pause: Duration,
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
            asked: BTreeSet::new(),
            look: None,
            asking: Vec::new(),
            began: Time::default(),
            unanswered: Rc::default(),
            again: None,
            pause: GUEST_AGAIN.0,
            holds: true,
        }
    }

    /// Whether nothing may be carried until the remote has answered.
    pub(super) const fn holds_link(&self) -> bool {
        self.holds && self.look.is_some()
    }

    /// When the remote is asked again.
    pub(super) const fn due(&self) -> Option<Time> {
        self.again
    }

    /// Whether it is time for that now.
    pub(super) fn take_due(&mut self, now: Time) -> bool {
        self.again.take_if(|again| *again <= now).is_some()
    }

    /// A link is dialled: asks about all that are met before. An error when one of them is the remote's.
    pub(super) fn before_dial(
        &mut self,
        address: Address,
        way: Rc<Way>,
        level: Level,
    ) -> impl Future<Output = Result<(), DialError>> + use<> {
        let plan = Rc::clone(&self.plan);
        let met = self.guests.met_by(&plan.settings.name, level.version().is_v5());
        self.look = None;
        self.asked = met.iter().map(|one| one.client_id.clone()).collect();
        (self.holds, self.again, self.pause) = (true, None, GUEST_AGAIN.0);
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
        met.retain(|one| !self.asked.contains(&one.client_id));
        if met.is_empty() {
            return;
        }
        if self.asked.len() >= GUESTS_REMEMBERED {
            self.asked.clear();
        }
        self.began = now;
        self.asking = met.iter().map(|one| one.client_id.clone()).collect();
        self.asked.extend(self.asking.iter().cloned());
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
            Whose::NotIts => self.holds &= now < self.began.after(GUEST_PATIENCE),
            Whose::Unknown(why) => self.ask_later(now, &why),
        }
        None
    }

    /// The remote is asked again, ever less often, and the link goes on meanwhile: there are remotes that never answer, and guests
    /// that are none of theirs.
    fn ask_later(&mut self, now: Time, why: &str) {
        let asking = std::mem::take(&mut self.asking);
        if self.pause == GUEST_AGAIN.0 {
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
        self.holds = false;
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
