/* The whole protocol of waiting, for spin: docs/waiting.md and edges E3 and E4.
 *
 * A producer and a consumer at the two ends of one FIFO, with a doorbell in each
 * direction. Each side waits as it likes, and changes its mind at any moment: it
 * spins, it sleeps, or it stays awake for a while although it said that it sleeps,
 * as an event loop with many connections does. Either may close at any time, and
 * either may be killed between any two steps.
 *
 * Memory is that of x86-64: stores wait in a buffer (`buffer`, emptied by `drain`)
 * while later loads are already done. What weaker machines do is loom's business.
 *
 * What is checked: nobody sleeps for ever (spin's "invalid end states"); who sees
 * the end has read all that was published; a sleep costs at most one doorbell.
 *
 * models/check runs it, whole and with one fault at a time (-D...), each of which
 * must be found.
 */

#define CAPACITY 4
#define MESSAGES 5

/* After how many bytes a consumer looks for a sleeping producer: half a ring. */
#ifndef LOOK_EVERY
#define LOOK_EVERY (CAPACITY / 2)
#endif

/* The sides. */
#define P 0
#define C 1

/* The shared words. */
#define TAIL     0
#define HEAD     1
#define P_PARKED 2
#define C_PARKED 3
#define P_CLOSED 4
#define C_CLOSED 5

byte word[6];
chan buffer[2] = [2] of { byte, byte };

/* Doorbells on the way to a side, and the end of its socket. */
bool bell[2];
bool ended[2];

/* Not of the protocol: who was killed, and what the assertions compare. */
bool killed[2];
byte published;
byte owed[2];

#define store(me, where, value) buffer[me]!where,value
#define fence(me)               empty(buffer[me])

/* What a system call does is seen after all stores before it: the kernel takes locks,
 * which whoever hears of it takes after us. So does the death of a process. */
#ifndef DOORBELL_OVERTAKES_STORES
#define before_system_call(me) fence(me)
#else
#define before_system_call(me) true
#endif

/* A doorbell answers an announcement. Of those not answered yet three are counted: one
 * that was taken, one that can be seen, and one on its way. */
inline ring(me, peer) {
    atomic {
        before_system_call(me) -> assert(owed[peer] > 0);
        owed[peer]--;
        bell[peer] = true
    }
}

inline announce(me, parked) {
    atomic { store(me, parked, 1); owed[me] = (owed[me] < 3 -> owed[me] + 1 : 3) };
#ifndef NO_FENCE_IN_ANNOUNCE
    fence(me)
#else
    skip
#endif
}

inline retract(me, parked) {
    store(me, parked, 0)
}

inline take(me, parked, peer) {
#ifndef NO_FENCE_IN_TAKE
    fence(me);
#endif
    if
    :: word[parked] != 0 ->
#ifndef RUNG_BEFORE_TAKEN
        store(me, parked, 0);
        ring(me, peer)
#else
        ring(me, peer);
        store(me, parked, 0)
#endif
    :: else
    fi
}

inline end_socket(me, peer) {
#ifndef SILENT_END
    atomic { fence(me) -> ended[peer] = true }
#else
    skip
#endif
}

/* Sleeps on the socket; a byte that is there already ends it at once. Takes all
 * doorbells. */
inline sleep_on_socket(me, peer_ended) {
    atomic {
        bell[me] || ended[me] ->
        bell[me] = false;
        peer_ended = ended[me]
    }
}

/* The hardware: stores become visible one by one, in order, at any time. */
proctype drain(byte side) {
    byte where, value;
end:
    do
    :: atomic { buffer[side]?where,value -> word[where] = value }
    od
}

/* SpaceWatch::is_ready: a quarter of the ring, or the end of the reader. */
inline look_for_space() {
    ready = tail - word[HEAD] <= CAPACITY / 4 * 3;
    if
    :: !ready -> ready = word[C_CLOSED] != 0
    :: else
    fi
}

proctype producer() {
    byte tail, head;
    bool peer_ended, ready;
    {
        do
        :: tail < MESSAGES && !peer_ended && word[C_CLOSED] == 0 ->
            head = word[HEAD];
            if
            :: tail - head < CAPACITY ->
                tail++;
                atomic { store(P, TAIL, tail); published = tail };
                take(P, C_PARKED, C)
            :: else ->
                if
                :: skip /* spin: look again */
                :: announce(P, P_PARKED);
#ifndef NO_SECOND_LOOK
                    look_for_space();
#endif
                    if
                    :: ready -> skip
                    :: !ready -> sleep_on_socket(P, peer_ended)
                    fi;
                    ready = false;
                    retract(P, P_PARKED)
                fi
            fi
        :: else -> break
        :: break /* done already */
        od;
        store(P, P_CLOSED, 1)
    } unless { killed[P] };
    end_socket(P, C)
}

/* DataWatch::is_ready: something to read, or the end of the writer. */
inline look_for_data() {
    ready = word[TAIL] != head;
    if
    :: !ready -> ready = word[P_CLOSED] != 0
    :: else
    fi
}

proctype consumer() {
    byte tail, head, since_look;
    bool peer_ended, peer_closed, ready;
    {
        do
        :: true ->
#ifndef END_SEEN_AFTER_THE_TAIL
            peer_closed = peer_ended || word[P_CLOSED] != 0;
#endif
            tail = word[TAIL];
#ifdef END_SEEN_AFTER_THE_TAIL
            peer_closed = peer_ended || word[P_CLOSED] != 0;
#endif
            if
            :: tail != head ->
                /* Some of it, or all. */
                if
                :: since_look = since_look + 1; head++
                :: since_look = since_look + (tail - head); head = tail
                fi;
                store(C, HEAD, head);
                if
                :: since_look >= LOOK_EVERY -> since_look = 0; take(C, P_PARKED, P)
                :: else
                fi
            :: tail == head && peer_closed ->
                assert(head == published);
                break
            :: tail == head && !peer_closed ->
                if
                :: skip /* spin: look again */
                :: if
                    :: since_look = 0; take(C, P_PARKED, P)
                    :: skip /* an event loop leaves it at one look for each half ring */
                    fi;
                    announce(C, C_PARKED);
#ifndef NO_SECOND_LOOK
                    look_for_data();
#endif
#ifdef BELL_CLEARED_BEFORE_SLEEP
                    bell[C] = false;
#endif
                    if
                    :: ready -> skip
                    :: !ready -> skip /* awake all the same: others are busy */
                    :: !ready -> sleep_on_socket(C, peer_ended)
                    fi;
                    ready = false;
                    retract(C, C_PARKED)
                fi
            fi
        :: break /* wants no more */
        od;
        store(C, C_CLOSED, 1)
    } unless { killed[C] };
    end_socket(C, P)
}

proctype killer() {
    if
    :: killed[P] = true
    :: killed[C] = true
    :: skip
    fi
}

init {
    atomic { run drain(P); run drain(C); run producer(); run consumer(); run killer() }
}
