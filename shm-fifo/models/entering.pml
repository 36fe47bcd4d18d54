/* How a connection enters its rings, for spin: edge E6 of docs/memory-ordering.md.
 *
 * A client asks its server, on their socket, to go on in the rings. Without waiting for
 * the answer it writes messages into its ring and rings nobody, until it sees that the
 * server has entered: its answer is in the other ring. A server that enters publishes
 * that answer, and from then on sleeps over the ring as ever (waiting.pml). One that does
 * not enter says so on the socket, and the client sends there what it had written. Either
 * may take its time at any point; the client may be killed at any point.
 *
 * Memory is that of x86-64, as in waiting.pml.
 *
 * What is checked: the server does not sleep for ever over a message (spin's "invalid end
 * states"); nobody is rung before it has entered; each message arrives once, in order,
 * and all of them that were written, whatever becomes of the client.
 *
 * models/check runs it, whole and with one fault at a time (-D...), each of which must be
 * found.
 */

#define MESSAGES 3

/* The sides: client and server. */
#define C 0
#define S 1

/* The shared words: the client's position, its server's, the server's parked word. */
#define TAIL   0
#define ANSWER 1
#define PARKED 2

byte word[3];
chan buffer[2] = [2] of { byte, byte };

/* The socket. */
bool started, refused, bell, ended;
chan sent = [MESSAGES] of { byte };

/* Not of the protocol: what the assertions compare. */
bool entered, killed;
byte written, received;

#define store(me, where, value) buffer[me]!where,value
#define fence(me)               empty(buffer[me])

proctype drain(byte side) {
    byte where, value;
end:
    do
    :: atomic { buffer[side]?where,value -> word[where] = value }
    od
}

inline ring() {
    assert(entered);
    bell = true
}

/* Watch::needs_notify_if_entered, and the doorbell. */
inline look_for_a_sleeper() {
#ifdef LOOKED_FOR_THE_ANSWER_BEFORE_THE_FENCE
    seen = word[ANSWER];
#endif
#ifndef NO_FENCE_AFTER_WRITING
    fence(C);
#endif
#ifndef LOOKED_FOR_THE_ANSWER_BEFORE_THE_FENCE
    seen = word[ANSWER];
#endif
    if
#ifdef RUNG_WITHOUT_AN_ANSWER
    :: word[PARKED] != 0 -> store(C, PARKED, 0); atomic { fence(C) -> ring() }
#else
    :: seen != 0 && word[PARKED] != 0 -> store(C, PARKED, 0); atomic { fence(C) -> ring() }
#endif
    :: else
    fi
}

proctype client() {
    byte tail, seen, back;
    {
        started = true;
        do
        :: tail < MESSAGES && !refused ->
            tail++;
            atomic { store(C, TAIL, tail); written = tail };
            look_for_a_sleeper()
        :: refused ->
            /* Duplex::take_back, and the rest behind it. */
            do
            :: back < tail -> back++; sent!back
            :: back == tail && tail < MESSAGES ->
                tail++;
                back++;
                atomic { sent!tail; written = tail }
            :: back == tail -> break
            od;
            break
        :: tail == MESSAGES && word[ANSWER] != 0 ->
            if
            :: skip -> received == MESSAGES /* it waits for replies, which tell it so */
            :: skip /* it wants none */
            fi;
            break
        od
    } unless { killed };
    /* The end of the socket, which the kernel orders behind all that it did. */
    atomic { fence(C) -> ended = true }
}

inline receive(number) {
    atomic { assert(number == received + 1); received++ }
}

inline answer(me) {
    atomic { store(me, ANSWER, 1); entered = true }
}

#ifdef ANSWERED_BY_ANOTHER_THREAD
/* At any time after the connection may be looked at. */
proctype answering() {
    atomic { word[ANSWER] = 1; entered = true }
}
#endif

inline enter() {
    /* It is awake: the word was set from the beginning. */
    store(S, PARKED, 0);
#ifndef ANSWERED_BY_ANOTHER_THREAD
    answer(S)
#else
    run answering()
#endif
}

proctype server() {
    byte tail;
    if
    :: started ->
        enter();
        do
        :: word[TAIL] > received -> receive(received + 1)
        :: word[TAIL] == received && ended -> break
        :: word[TAIL] == received && !ended ->
            store(S, PARKED, 1);
#ifndef NO_FENCE_BEFORE_SLEEPING
            fence(S);
#endif
#ifndef NO_SECOND_LOOK
            tail = word[TAIL];
#else
            tail = received;
#endif
            if
            :: tail != received
            :: tail == received -> atomic { bell || ended -> bell = false }
            fi;
            store(S, PARKED, 0)
        od
    :: started ->
        atomic { fence(S) -> refused = true };
        do
        :: sent?tail -> receive(tail)
        :: ended && empty(sent) -> break
        od
    :: ended && !started
    fi;
    /* Only what a client wrote, was refused, and was killed before it sent it is lost. */
    assert(received == written || killed && !entered)
}

proctype killer() {
    if
    :: killed = true
    :: skip
    fi
}

init {
    atomic {
        /* Both ends are announced as asleep from the beginning. */
        word[PARKED] = 1;
        run drain(C); run drain(S); run client(); run server(); run killer()
    }
}
