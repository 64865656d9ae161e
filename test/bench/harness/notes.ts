// Why a target is missed, and the next design that would meet it. Printed beside the figure only while it is missed. Shares are of node --cpu-prof on 2026-11-25.

const ACQUIRE = `Of the daemon's time for one AcquireLease on a session about an eighth is reading and decoding the request, a third policy, admission and the book, a sixth opening the two descriptors,
a fifth the offer (frame and sendmsg), a fifth encoding and writing the answer; outside of the latency come the log line, the metrics and closing the broker's own copies on the device's thread.`;

const ON_THE_CHANNEL =
  "Next: the request as one frame on the descriptor channel, which its OFFER answers. That leaves one round trip and no HTTP/2; prototypes of it came to 1.1 of the C round trip, and to three times the C++ gRPC server";

/** By the id of a row or of a growth. */
export const NOTES: Readonly<Record<string, string>> = {
  "handover-64":
    "A frame is recvmsg with its sender's credentials, a poll of the pidfd that tells whether they still mean that process, and sendmsg: one system call more than the C server, which asks nobody. Frames come in batches, answers go out one by one: each is a call into the addon of its own, because its errno decides at once what becomes of the lease. Next: the offers of one turn in one call, and those that the kernel refused undone from its answer",
  "handover-1":
    "Beside epoll_wait, recv and sendmsg in C stand a turn of libuv's loop (its own epoll_wait, a callback into JavaScript, a call back into the addon) and the poll of the sender's pidfd. Next: the poller's answers to frames that need no policy, such as ATTACH, without JavaScript; an offer needs it",
  "session-1": `${ACQUIRE} ${ON_THE_CHANNEL}`,
  "session-64-peer": `${ACQUIRE} The baseline does none of policy, liveness, proof, metrics and log. ${ON_THE_CHANNEL}`,
  "session-64-ticket": "What a session saves, the stream's set-up, is by now a small part of a lease; the rest is the same for both",
  "push-1": `An echo is the HTTP/2 part of it alone. ${ACQUIRE} Next: Session, which is what clients that count microseconds use`,
  scrape:
    "What is left is not making the page, whose bytes are kept, but sending and reading its 2 MB: about 20,000 lines over loopback, which the client pays for as well. Next: the states of devices that are free left out of it, which is most lines on most hosts",
  memory:
    "What the daemon itself keeps is bounded (1,024 ended leases); the rest is V8's: young generation, compiled code, and garbage that it collects only when it sees a reason to. With semi-spaces of 4 MiB it gives back most of that when it has been idle, which it decides by itself (8 s and more after the last allocations). Next: a heap limit for hosts where memory is what counts",
  "lab-edu":
    "edu has no reset, so the kernel's part is some system calls, and what Aperture adds is JavaScript, gRPC and a second process, all emulated on one processor: the same call takes under a millisecond outside of the emulator (row of unary AcquireLease). The row of the virtual function has a kernel's part as real devices have one (resets), and there Aperture does not count. Next: this row on hardware",
};
