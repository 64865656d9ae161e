// The limit that descriptor hand-over is compared with: one thread, one epoll set, one recv and one sendmsg a
// request, nothing else. Answers each message on a SOCK_SEQPACKET socket with one of the same length that
// carries DESCRIPTORS descriptors. memfds stand in for VFIO descriptors: what passing one costs does not
// depend on what is behind it.
// Usage: scm_server SOCKET DESCRIPTORS FRAME_BYTES

#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_DESCRIPTORS = 32, MAX_FRAME = 4096, MAX_EVENTS = 64 };

static void die(const char* what) {
  perror(what);
  exit(1);
}

// False: the client has gone.
static bool answer(int connection, const int* descriptors, int count, size_t length) {
  static char frame[MAX_FRAME];
  struct iovec part = {frame, length};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(MAX_DESCRIPTORS * sizeof(int))];
  } control;
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (count > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    memcpy(CMSG_DATA(&control.header), descriptors, count * sizeof(int));
  }
  if (sendmsg(connection, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return true;
  if (errno != EPIPE && errno != ECONNRESET) die("sendmsg");
  return false;
}

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: scm_server SOCKET DESCRIPTORS FRAME_BYTES\n");
    return 2;
  }
  const int count = atoi(argv[2]);
  const size_t length = (size_t)atoi(argv[3]);
  if (count < 0 || count > MAX_DESCRIPTORS || length < 1 || length > MAX_FRAME) return 2;
  int descriptors[MAX_DESCRIPTORS];
  for (int i = 0; i < count; i++)
    if ((descriptors[i] = memfd_create("region", MFD_CLOEXEC)) < 0) die("memfd_create");

  const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(argv[1]) >= sizeof address.sun_path) return 2;
  strcpy(address.sun_path, argv[1]);
  if (bind(listener, (struct sockaddr*)&address, sizeof address) < 0 || listen(listener, 512) < 0)
    die("listen");
  const int set = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  if (epoll_ctl(set, EPOLL_CTL_ADD, listener, &event) < 0) die("epoll_ctl");
  printf("READY\n");
  fflush(stdout);

  for (;;) {
    struct epoll_event ready[MAX_EVENTS];
    const int events = epoll_wait(set, ready, MAX_EVENTS, -1);
    if (events < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < events; i++) {
      const int fd = ready[i].data.fd;
      if (fd == listener) {
        const int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct epoll_event added = {.events = EPOLLIN, .data.fd = accepted};
        if (accepted >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, accepted, &added) < 0) die("epoll_ctl");
        continue;
      }
      char frame[MAX_FRAME];
      const ssize_t received = recv(fd, frame, sizeof frame, 0);
      if (received < 0 && errno == EAGAIN) continue;
      if (received <= 0 || !answer(fd, descriptors, count, length)) close(fd);
    }
  }
}
