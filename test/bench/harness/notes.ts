// Why a target is missed, and the next design that would meet it. Printed beside the figure only while it is missed. Shares are of node --cpu-prof on 2026-11-25.

const ACQUIRE = `Of the daemon's time for one AcquireLease on a session about an eighth is reading and decoding the request, a third policy, admission and the book, a sixth opening the two descriptors,
a fifth the offer (frame and sendmsg), a fifth encoding and writing the answer; outside of the latency come the log line, the metrics and closing the broker's own copies on the device's thread.`;

const ON_THE_CHANNEL =
  "Next: the request as one frame on the descriptor channel, which its OFFER answers. That leaves one round trip and no HTTP/2; prototypes of it came to 1.1 of the C round trip, and to three times the C++ gRPC server";

/** By the id of a row or of a growth. */
export const NOTES: Readonly<Record<string, string>> = {
  "handover-64":
    "Frames come in batches, offers go out one by one: each is a call into the addon and a sendmsg of its own, because its errno decides at once what becomes of the lease. Next: the offers of one turn in one call, and those that the kernel refused undone from its answer",
  "handover-1":
    "Beside epoll_wait, recvmsg and sendmsg in C stands a turn of libuv's loop: epoll_wait, a callback into JavaScript, a call back into the addon. A prototype of the same shape came to 1.1 to 1.2, so part of this is ours and not understood yet",
  "session-1": `${ACQUIRE} ${ON_THE_CHANNEL}`,
  "session-64-peer": `${ACQUIRE} The baseline does none of policy, liveness, proof, metrics and log. ${ON_THE_CHANNEL}`,
  "session-64-ticket": "What a session saves, the stream's set-up, is by now a small part of a lease; the rest is the same for both",
  "push-1": `An echo is the HTTP/2 part of it alone. ${ACQUIRE} Next: Session, which is what clients that count microseconds use`,
};
