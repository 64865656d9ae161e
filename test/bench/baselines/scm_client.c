// A closed loop over CHANNELS descriptor channels: each sends, waits for a message with exactly DESCRIPTORS
// descriptors, closes them, sends again. The same program drives the C server (plain), the daemon's poll set
// (plain) and the daemon's channels (offers: ATTACH, then OFFER and ACK as docs/PROTOCOL.md has them), so
// that only the server differs. SPIN: microseconds to poll before it blocks. Prints one line of JSON; exit
// status 1 when a descriptor is missing. Usage: scm_client SOCKET CHANNELS COUNT DESCRIPTORS FRAME_BYTES
// plain|offers SPIN

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DESCRIPTORS = 32, MAX_FRAME = 4096, MAX_EVENTS = 64, FRAME_OFFER = 3 };

static void die(const char* what) {
  perror(what);
  exit(1);
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int compare(const void* a, const void* b) {
  const uint32_t x = *(const uint32_t*)a, y = *(const uint32_t*)b;
  return x < y ? -1 : x > y;
}

static int connected(const char* path) {
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) exit(2);
  strcpy(address.sun_path, path);
  if (connect(fd, (struct sockaddr*)&address, sizeof address) < 0) die("connect");
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

static void header(uint8_t* frame, uint8_t type, uint32_t length) {
  memset(frame, 0, length);
  memcpy(frame, "APTR", 4);
  frame[4] = 1;
  frame[5] = type;
  memcpy(frame + 8, &length, 4);
}

// Length of the message and its descriptors, which are closed; -1 when nothing is there.
static ssize_t receive(int fd, uint8_t* frame, int* descriptors) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(MAX_DESCRIPTORS * sizeof(int))];
  } control;
  struct iovec part = {frame, MAX_FRAME};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
  const ssize_t length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  if (length < 0 && errno == EAGAIN) return -1;
  if (length <= 0) die("recvmsg");
  *descriptors = 0;
  for (struct cmsghdr* part = CMSG_FIRSTHDR(&message); part != NULL; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_type != SCM_RIGHTS) continue;
    const int count = (int)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < count; i++) {
      int received;
      memcpy(&received, CMSG_DATA(part) + i * sizeof(int), sizeof received);
      close(received);
    }
    *descriptors += count;
  }
  return length;
}

int main(int argc, char** argv) {
  if (argc != 8) {
    fprintf(stderr, "usage: scm_client SOCKET CHANNELS COUNT DESCRIPTORS FRAME_BYTES plain|offers SPIN\n");
    return 2;
  }
  const int channels = atoi(argv[2]), count = atoi(argv[3]), expected = atoi(argv[4]), length = atoi(argv[5]);
  const bool offers = strcmp(argv[6], "offers") == 0;
  const uint64_t spin = (uint64_t)atoi(argv[7]) * 1000;
  uint64_t* sent = calloc((size_t)channels, sizeof *sent);
  uint32_t* took = calloc((size_t)count, sizeof *took);
  if (channels < 1 || count < 1 || sent == NULL || took == NULL) return 2;
  const int set = epoll_create1(EPOLL_CLOEXEC);
  int* sockets = calloc((size_t)channels, sizeof *sockets);
  if (sockets == NULL) return 2;
  for (int i = 0; i < channels; i++) {
    sockets[i] = connected(argv[1]);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    if (epoll_ctl(set, EPOLL_CTL_ADD, sockets[i], &event) < 0) die("epoll_ctl");
  }

  uint8_t frame[MAX_FRAME], out[MAX_FRAME] = {0};
  const uint64_t begin = now();
  for (int i = 0; i < channels; i++) {
    uint32_t first = (uint32_t)length;
    if (offers) header(out, 1, first = 16);
    sent[i] = now();
    if (send(sockets[i], out, first, MSG_NOSIGNAL) < 0) die("send");
  }
  int done = 0, bad = 0;
  while (done < count) {
    struct epoll_event ready[MAX_EVENTS];
    int events = 0;
    for (const uint64_t until = now() + spin; spin > 0 && events == 0 && now() < until;)
      events = epoll_wait(set, ready, MAX_EVENTS, 0);
    if (events == 0) events = epoll_wait(set, ready, MAX_EVENTS, 10000);
    if (events == 0) {
      fprintf(stderr, "scm_client: nothing came for 10 s\n");
      return 1;
    }
    for (int i = 0; i < events && done < count; i++) {
      const uint32_t which = ready[i].data.u32;
      int descriptors;
      const ssize_t received = receive(sockets[which], frame, &descriptors);
      if (received < 0) continue;
      // ATTACHED, which carries nothing.
      if (offers && frame[5] != FRAME_OFFER) {
        sent[which] = now();
        continue;
      }
      const uint64_t end = now();
      if (descriptors != expected) bad += 1;
      took[done++] = (uint32_t)(end - sent[which]);
      uint32_t next = (uint32_t)length;
      if (offers) {
        const uint32_t all = (uint32_t)descriptors;
        header(out, 4, next = 40);
        memcpy(out + 16, frame + 16, 16);
        memcpy(out + 32, &all, 4);
      }
      sent[which] = now();
      if (send(sockets[which], out, next, MSG_NOSIGNAL) < 0) die("send");
    }
  }
  const double seconds = (double)(now() - begin) / 1e9;
  qsort(took, (size_t)count, sizeof *took, compare);
  printf("{\"count\":%d,\"bad\":%d,\"perSecond\":%.1f,\"p50\":%.3f,\"p99\":%.3f}\n", done, bad,
         done / seconds, took[count / 2] / 1e3, took[(size_t)count * 99 / 100] / 1e3);
  return bad == 0 ? 0 : 1;
}
