//! The sessions that one poller watches.
//!
//! A member is *hot* while it was active within the last milliseconds: its ring
//! is looked at on every turn. Otherwise it is *parked*: its words say so, and
//! its doorbell, a byte on the real socket, makes it hot again. So a turn costs
//! O(hot), and an idle loop sleeps in the kernel. Each session knows its
//! [`Place`], so what is done with one member costs the same however many there are.

use super::member::Member;
use super::place::Place;
use super::poller::EPOLLIN;
use super::session::Session;
use crate::interposer::pace::SILENCE_NS;

/// So many parked members are looked at once a hot one is ready, mostly those that were
/// parked last. To look at all would take the longer the more there are.
const SECOND_LOOK: usize = 4;
/// Parked members looked at in one tick of the safety net.
const SWEEP_MEMBERS: usize = 64;

#[derive(Debug)]
pub(super) struct Members {
    hot: List,
    parked: List,
    /// Where the next turn begins: behind the one that was reported last, which waits until
    /// the others were served. So nobody waits for two commands of one other.
    turn: usize,
    /// The hot member whose doorbell was heard first since the last turn.
    first_heard: Option<usize>,
    /// Parked members before this one were not looked at in this round of the safety net.
    unswept: usize,
}

/// Members whose sessions know where they are.
#[derive(Debug)]
struct List {
    place: fn(usize) -> Place,
    members: Vec<Member>,
}

impl List {
    const fn new(place: fn(usize) -> Place) -> Self {
        Self { place, members: Vec::new() }
    }

    fn push(&mut self, member: Member) {
        member.session.place().set(Some((self.place)(self.members.len())));
        self.members.push(member);
    }

    /// Takes the member at `index` out; the last one takes its place.
    fn remove(&mut self, index: usize) -> Member {
        let member = self.members.swap_remove(index);
        member.session.place().set(None);
        if let Some(moved) = self.members.get(index) {
            moved.session.place().set(Some((self.place)(index)));
        }
        member
    }

    /// The index of `session`, whose place may be one in another poller.
    fn find(&self, session: &Session) -> Option<usize> {
        let (Place::Hot(index) | Place::Parked(index)) = session.place().get()?;
        let member = self.members.get(index)?;
        std::ptr::eq(member.session, session).then_some(index)
    }

    fn clear(&mut self) {
        for member in self.members.drain(..) {
            member.session.place().set(None);
        }
    }
}

impl Default for Members {
    fn default() -> Self {
        Self {
            hot: List::new(Place::Hot),
            parked: List::new(Place::Parked),
            turn: 0,
            first_heard: None,
            unswept: 0,
        }
    }
}

impl Members {
    pub(super) fn hot(&self) -> &[Member] {
        &self.hot.members
    }

    pub(super) fn hot_mut(&mut self) -> &mut [Member] {
        &mut self.hot.members
    }

    pub(super) fn any_hot_is_ready(&self) -> bool {
        self.hot().iter().any(|member| member.ready() != 0)
    }

    /// The kernel had events: perhaps what a reported member was waiting for.
    pub(super) fn forget_reports(&mut self) {
        self.hot_mut().iter_mut().for_each(Member::forget_report);
    }

    pub(super) fn clear(&mut self) {
        self.hot.clear();
        self.parked.clear();
    }

    /// Takes the member of `session` out, hot or parked.
    pub(super) fn take(&mut self, session: &Session) -> Option<Member> {
        let list = match session.place().get()? {
            Place::Hot(_) => &mut self.hot,
            Place::Parked(_) => &mut self.parked,
        };
        list.find(session).map(|index| list.remove(index))
    }

    /// The member of `session`, active now, and hot from now on. One that was hot keeps
    /// its place: who rings often has no advantage.
    pub(super) fn activate(&mut self, session: &Session, now_ns: u64) -> Option<&mut Member> {
        if let Some(Place::Parked(_)) = session.place().get() {
            let index = self.parked.find(session)?;
            let member = self.parked.remove(index);
            self.hot.push(member);
        }
        let index = self.hot.find(session)?;
        self.first_heard.get_or_insert(index);
        let member = &mut self.hot.members[index];
        member.unpark();
        member.active_ns = now_ns;
        Some(member)
    }

    pub(super) fn add_hot(&mut self, member: Member) {
        member.unpark();
        self.hot.push(member);
    }

    /// Writes the events of ready members, as many as there is room for. A caller
    /// that is `patient`, one that could wait, is not told what it was told a moment
    /// ago and did not act upon.
    pub(super) fn collect(
        &mut self,
        events: &mut [libc::epoll_event],
        patient: bool,
        now_ns: u64,
    ) -> usize {
        let members = self.hot().len();
        // Those that were parked follow in the order in which they rang. Where there is not
        // room for all, who rings often would have an advantage.
        if let Some(first) = self.first_heard.take().filter(|_| members <= events.len()) {
            self.turn = first;
        }
        let mut found = 0;
        let first = self.turn;
        for step in 0..members {
            let Some(event) = events.get_mut(found) else {
                // No room: the next turn begins with the one left out.
                self.turn = (first + step) % members;
                return found;
            };
            let index = (first + step) % members;
            let member = &mut self.hot.members[index];
            let mut ready = member.ready();
            if patient && member.repeats_itself(now_ns) {
                ready &= !EPOLLIN;
            }
            if ready != 0 {
                member.active_ns = now_ns;
                member.note_report(ready, now_ns);
                *event = libc::epoll_event { events: ready, u64: member.data };
                // The program answers the first at once. Until it comes to the others
                // their lines have arrived, and no answer waits behind another's.
                if found > 0 {
                    member.watch.space.prefetch();
                }
                found += 1;
                self.turn = index + 1;
            }
        }
        found
    }

    /// Whether a hot member is ready, and what was sent to a parked one before could come
    /// behind it.
    pub(super) fn one_may_be_overtaken(&self) -> bool {
        !self.parked.members.is_empty() && self.any_hot_is_ready() && self.some_parked_have_bytes()
    }

    /// The second look, once something was found on a hot member: whether parked ones have
    /// bytes. What was sent before is seen by now, and its doorbell is in the kernel.
    pub(super) fn some_parked_have_bytes(&self) -> bool {
        self.parked.members.iter().rev().take(SECOND_LOOK).any(Member::has_bytes)
    }

    /// Parks the members that were silent for long.
    pub(super) fn retire_silent(&mut self, now_ns: u64) {
        let mut index = 0;
        while let Some(member) = self.hot().get(index) {
            if is_silent(member, now_ns) && member.ready() == 0 && member.park() {
                let mut member = self.hot.remove(index);
                member.swept_at = None;
                self.parked.push(member);
            } else {
                index += 1;
            }
        }
    }

    /// Announces every hot member as parked, before the loop sleeps. Returns
    /// `false`, nothing announced, if one of them is ready after all.
    pub(super) fn park_hot(&mut self) -> bool {
        let all_parked = self.hot().iter().all(|member| member.ready() == 0 && member.park());
        if !all_parked {
            self.hot().iter().for_each(Member::unpark);
        }
        all_parked
    }

    /// Awake again: a member that was active lately needs no doorbell for its
    /// next message; the others stay announced as parked. Those that were made hot
    /// while the loop slept are not announced yet, however late it wakes.
    pub(super) fn unpark_hot(&mut self, now_ns: u64) {
        self.retire_silent(now_ns);
        self.hot().iter().for_each(Member::unpark);
    }

    /// Looks at members that wait for a doorbell, a bounded number of them, in case
    /// it was lost; those that are hot wait for one as well if the loop is
    /// `sleeping`. Those found are hot then. Returns how many.
    pub(super) fn sweep(&mut self, sleeping: bool, now_ns: u64) -> usize {
        // Those that were active just before the loop fell asleep wait as well.
        let announced = if sleeping { self.hot_mut() } else { &mut [] };
        let mut missed = announced
            .iter_mut()
            .map(|member| usize::from(member.has_missed(now_ns)))
            .sum::<usize>();
        if self.unswept == 0 {
            self.unswept = self.parked.members.len();
        } else {
            missed += self.sweep_parked(now_ns);
        }
        missed
    }

    /// From the end of the list: what takes the place of one that is taken out has been
    /// looked at, and none is passed over.
    fn sweep_parked(&mut self, now_ns: u64) -> usize {
        let mut missed = 0;
        let parked = self.parked.members.len();
        for index in (0..self.unswept.min(parked)).rev().take(SWEEP_MEMBERS) {
            self.unswept = index;
            if self.parked.members[index].has_missed(now_ns) {
                let member = self.parked.remove(index);
                self.add_hot(member);
                missed += 1;
            }
        }
        missed
    }
}

fn is_silent(member: &Member, now_ns: u64) -> bool {
    now_ns.saturating_sub(member.active_ns) >= SILENCE_NS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::endpoint::Endpoint;
    use crate::os::region::Region;
    use crate::testing::Random;
    use crate::vfd::poller::EPOLLOUT;
    use crate::vfd::session::Session;
    use std::io::IoSlice;
    use std::sync::Mutex;

    const MOMENT_NS: u64 = 1_000_000;
    const PATIENT: bool = true;
    static SESSIONS: Mutex<Vec<&Session>> = Mutex::new(Vec::new());

    /// The sessions that are reported, in order.
    fn reported_in_order(members: &mut Members, now_ns: u64) -> Vec<u64> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        let found = members.collect(&mut events, !PATIENT, now_ns);
        events[..found].iter().map(|event| event.u64).collect()
    }

    /// So many hot members whose data are their indices, and the ends of their peers.
    fn numbered(count: u64) -> (Members, Vec<(&'static Session, Endpoint)>) {
        let mut members = Members::default();
        let all = (0..count).map(|number| {
            let (session, peer) = add(&mut members);
            members.hot_mut().last_mut().expect("just added").data = number;
            (session, peer)
        });
        let all = all.collect();
        (members, all)
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn who_was_served_last_does_not_go_before_one_that_waits() {
        let mut random = Random::seeded(1);
        let (mut members, mut all) = numbered(3);
        let read = |all: &[(&Session, Endpoint)], who: usize| {
            all[who].0.read(&mut [0; 8]).expect("a byte");
        };
        for round in 1..100 {
            let busy = random.below(3);
            all[busy].1.producer.write(b"x").expect("sane");
            assert_eq!(reported_in_order(&mut members, round * MOMENT_NS), [busy as u64]);
            // While it is served the others come, and it comes again.
            read(&all, busy);
            for (_, peer) in &mut all {
                peer.producer.write(b"x").expect("sane");
            }

            let order = reported_in_order(&mut members, round * MOMENT_NS + 1);

            assert_eq!((order.len(), order.last()), (3, Some(&(busy as u64))), "{order:?}");
            (0..3).for_each(|who| read(&all, who));
        }
        all.iter().for_each(|(session, _)| session.end());
    }

    /// One hot member with this interest, and the end of its peer.
    fn one_member(interest: u32) -> (Members, &'static Session, Endpoint) {
        let region = Region::create(4096).expect("memory");
        let peer = Region::attach(region.fd().expect("its file")).expect("a region");
        let session: &'static Session = Box::leak(Box::new(Session::new(-1)));
        // Sessions live for ever, where a leak checker finds them.
        SESSIONS.lock().expect("no test panics with it").push(session);
        session.begin(region.into_endpoint(), 0).expect("its first");
        let mut members = Members::default();
        let join = |watch| {
            let mut member = Member::new(session, watch);
            member.interest = interest;
            members.add_hot(member);
        };
        session.join_poller(-1, || Ok(()), join).expect("alive");
        (members, session, peer.into_endpoint())
    }

    /// One more hot member, that is always silent.
    fn add(members: &mut Members) -> (&'static Session, Endpoint) {
        let (mut other, session, peer) = one_member(EPOLLIN);
        let member = other.take(session).expect("it is there");
        assert_eq!(session.place().get(), None);
        members.add_hot(member);
        (session, peer)
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn every_session_knows_its_place_whatever_is_parked_activated_or_taken_out() {
        let mut random = Random::seeded(1);
        let mut members = Members::default();
        let mut all: Vec<(&Session, Endpoint)> = (0..20).map(|_| add(&mut members)).collect();
        for step in 1..2000 {
            let (session, _) = &all[random.below(all.len())];
            match random.below(10) {
                0..5 => drop(members.activate(session, step * MOMENT_NS)),
                5..8 => members.retire_silent(step * MOMENT_NS),
                _ => {
                    let member = members.take(session).expect("it is a member");
                    assert!(
                        members.take(session).is_none() && members.activate(session, 0).is_none()
                    );
                    members.add_hot(member);
                }
            }
            let (hot, parked) = (&members.hot.members, &members.parked.members);
            assert_eq!(hot.len() + parked.len(), all.len());
            let is_at = |member: &Member, place| member.session.place().get() == Some(place);
            assert!(hot.iter().enumerate().all(|(at, member)| is_at(member, Place::Hot(at))));
            assert!(parked.iter().enumerate().all(|(at, member)| is_at(member, Place::Parked(at))));
        }
        members.clear();
        all.drain(..).for_each(|(session, _peer)| {
            assert_eq!(session.place().get(), None);
            session.end();
        });
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn a_session_that_another_poller_has_is_no_member_here() {
        let (mut here, one, _peer) = one_member(EPOLLIN);
        let (mut there, other, _its_peer) = one_member(EPOLLIN);

        assert!(here.take(other).is_none() && here.activate(other, 0).is_none());

        assert!(here.take(one).is_some() && there.take(other).is_some());
        one.end();
        other.end();
    }

    fn reported(members: &mut Members, patient: bool, now_ns: u64) -> usize {
        members.collect(&mut [libc::epoll_event { events: 0, u64: 0 }; 4], patient, now_ns)
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn what_was_reported_and_not_read_is_withheld_from_one_who_can_wait() {
        let (mut members, session, mut peer) = one_member(EPOLLIN);
        peer.producer.write(b"two").expect("sane");

        assert_eq!(reported(&mut members, PATIENT, MOMENT_NS), 1);
        assert_eq!(reported(&mut members, PATIENT, MOMENT_NS + 49_999), 0);
        assert_eq!(reported(&mut members, !PATIENT, MOMENT_NS + 1), 1);

        // Some of it was read: the rest is news.
        session.read(&mut [0; 1]).expect("a byte");
        assert_eq!(reported(&mut members, PATIENT, MOMENT_NS + 2), 1);
        session.end();
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn one_that_came_while_the_loop_slept_is_looked_at_or_rings_however_late_it_wakes() {
        let (mut members, session, mut peer) = one_member(EPOLLIN);

        members.unpark_hot(2 * SILENCE_NS);

        assert!(members.hot().is_empty(), "it was silent for long");
        peer.producer.write(b"x").expect("sane");
        assert!(peer.producer.needs_notify(), "nobody looks at it");
        session.end();
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn what_was_withheld_is_reported_after_a_while_or_another_event() {
        let (mut members, session, mut peer) = one_member(EPOLLIN);
        peer.producer.write(b"x").expect("sane");

        assert_eq!(reported(&mut members, PATIENT, MOMENT_NS), 1);
        assert_eq!(reported(&mut members, PATIENT, MOMENT_NS + 50_000), 1);
        members.forget_reports();
        assert_eq!(reported(&mut members, PATIENT, MOMENT_NS + 50_001), 1);
        session.end();
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn a_reader_that_has_not_read_all_owes_no_doorbell_yet() {
        const ASLEEP: bool = true;
        let (mut members, session, mut peer) = one_member(EPOLLOUT);
        let written = session.write(&[IoSlice::new(&[b'x'; 5000])]).expect("space");
        assert!(members.park_hot(), "no space");
        let mut sweep_in_a_row =
            || [1, 2, 3, 4, 5].map(|tick| members.sweep(ASLEEP, tick * MOMENT_NS));

        let read = peer.consumer.read(&mut [0; 2000]).expect("sane");
        assert_eq!(sweep_in_a_row(), [0, 0, 0, 0, 0]);

        // All was read, and nobody rang.
        assert_eq!(peer.consumer.read(&mut [0; 5000]), Ok(written - read));
        assert_eq!(sweep_in_a_row(), [0, 0, 0, 0, 1]);
        session.end();
    }
}
