// Why a target is missed, and the next design that would meet it. Printed beside the figure only while it is missed. Figures are of node --cpu-prof, perf and marks in the code on 2026-11-30.

const ACQUIRE = `Marks in the code put one AcquireLease on a session at about 170 µs of the daemon's time: 37 until the request is read (HTTP/2, gRPC, decoding), 17 for policy, admission and the book,
31 for opening two descriptors, 11 for liveness and the frame, 21 for sendmsg, which wakes the client, 8 for the state and what log and metrics are told, 10 for encoding the lease, 35 until gRPC and HTTP/2 have written it`;

const FLAT = `Profiles of 64 clients are flat: garbage collection is a tenth, the kernel a quarter, and of the rest no function has more than 2 %. The baseline does none of policy, liveness, acknowledgement, proof, log and metrics`;

/** By the id of a row or of a growth. */
export const NOTES: Readonly<Record<string, string>> = {
  "handover-64":
    "A frame is recvmsg with its sender's credentials and sendmsg; whether the senders live is asked once a batch. Frames come in batches, answers go out one by one: each is a call into the addon of its own, because its errno decides at once what becomes of the lease. Next: the offers of one turn in one call, and those that the kernel refused undone from its answer",
  "handover-1":
    "Beside epoll_wait, recv and sendmsg in C stand libuv's own epoll_wait (the set is one descriptor of its loop), the poll of the sender's pidfd, and a call into JavaScript and one back: a sixth of the time by perf, and the kernel has the rest. Next: the poller's answers to frames that need no policy, such as ATTACH, without JavaScript; an offer needs it",
  "session-1": `${ACQUIRE}. The C program decides, opens and encodes nothing. Next: the request as one frame on the descriptor channel, which its OFFER answers. That saves the 72 µs of HTTP/2 and gRPC; what is left is still more than the target, which a broker meets only if it opens before it is asked`,
  "session-64-peer": `${FLAT}. Next: what an uncontended lease always does (lock, open, offer, acknowledge, close) in the addon, behind the same decision in JavaScript, which is told of many at once. The request on the descriptor channel would save a fifth, and that alone is not enough`,
  "session-64-ticket":
    "What a session saves, the stream's set-up and the second frame, is a third of a call with a ticket. The rest is the same for both, so that twice the rate would need a lease that costs little beside a stream: the same next design as against the C++ server",
  "push-1": `An echo is the HTTP/2 part of it alone. ${ACQUIRE}; and a client that releases and acquires without a pause meets the end of the release (its stream, its log line, its closed descriptors). Next: Session, which is what clients that count microseconds use`,
  snapshot:
    "Messages are kept whole, so that the daemon does little that the bare server does not: of its time a quarter is gRPC copying each behind its header, a tenth collecting those copies, and most of the rest HTTP/2 and the kernel. A snapshot takes 7 to 10 ms, the bare one 5 to 6; in runs of one evening the ratio was 0.5 to 0.76, and why it moves is not known. Next: fewer bytes, for example what never changes of a device sent once",
  start:
    "Half of it is Node itself; the rest is the addon, gRPC and the two sockets, from one file with its code cache. The same code came to 1.69 in a run of five rounds an hour before this one, when the processor was slower: V8's part of a start shrinks with a faster one more than the file system's does. Next: a start-up snapshot, which Node 20 cannot make of a program with node:http2",
  scrape:
    "What is left is not making the page, whose bytes are kept, but sending its 2 MB: about 20,000 lines. Next: the states of devices that are free left out of it, which is most lines on most hosts",
  memory:
    "What the daemon itself keeps is bounded (1,024 ended leases); the rest is V8's: young generation, compiled code, and garbage that it collects only when it sees a reason to. With semi-spaces of 4 MiB it gives back most of that when it has been idle, which it decides by itself (8 s and more after the last allocations). Next: a heap limit for hosts where memory is what counts",
  "lab-edu":
    "edu has no reset, so the kernel's part is some system calls, and what Aperture adds is JavaScript, gRPC and a second process, all emulated on one processor: the same call takes under half a millisecond outside of the emulator (row of unary AcquireLease). The row of the virtual function has a kernel's part as real devices have one (resets), and there Aperture does not count. Next: this row on hardware",
};
