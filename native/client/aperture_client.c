/* See aperture_client.h and docs/PROTOCOL.md. Everything that comes from outside, daemon and drivers alike,
 * is checked before it is believed. */
#define _DEFAULT_SOURCE 1 /* MAP_ANONYMOUS, MADV_HUGEPAGE */
#define _FILE_OFFSET_BITS 64

#include "aperture_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* --- the kernel's structures ---
 * Declared here, because headers of older distributions lack the newer ones. */

#define VFIO_REQUEST_GET_REGION_INFO _IO(';', 108) /* uapi/linux/vfio.h, Linux 3.6 */
#define VFIO_REQUEST_BIND_IOMMUFD _IO(';', 118)    /* Linux 6.6 */
#define VFIO_REGION_HAS_CAPS 8u                    /* Linux 4.6 */

struct vfio_region_answer {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;
  uint32_t cap_offset;
  uint64_t size;
  uint64_t offset;
};
_Static_assert(sizeof(struct vfio_region_answer) == 32, "vfio_region_info");
_Static_assert(offsetof(struct vfio_region_answer, cap_offset) == 12, "vfio_region_info.cap_offset");
_Static_assert(offsetof(struct vfio_region_answer, size) == 16, "vfio_region_info.size");
_Static_assert(offsetof(struct vfio_region_answer, offset) == 24, "vfio_region_info.offset");

/* Without the token of Linux 6.17: the kernel believes argsz. */
struct vfio_bind {
  uint32_t argsz;
  uint32_t flags;
  int32_t iommufd;
  uint32_t out_devid;
};
_Static_assert(sizeof(struct vfio_bind) == 16, "vfio_device_bind_iommufd");
_Static_assert(offsetof(struct vfio_bind, iommufd) == 8, "vfio_device_bind_iommufd.iommufd");
_Static_assert(offsetof(struct vfio_bind, out_devid) == 12, "vfio_device_bind_iommufd.out_devid");

_Static_assert(sizeof(off_t) == 8, "offsets of VFIO regions are index << 40");
_Static_assert(VFIO_REQUEST_GET_REGION_INFO == 0x3b6c, "VFIO_DEVICE_GET_REGION_INFO");
_Static_assert(VFIO_REQUEST_BIND_IOMMUFD == 0x3b76, "VFIO_DEVICE_BIND_IOMMUFD");

enum { CAP_SPARSE_MMAP = 1, CAP_TYPE = 2, CAP_MSIX_MAPPABLE = 3 };

/* --- frames --- */

enum {
  FRAME_ATTACH = 1,
  FRAME_ATTACHED,
  FRAME_OFFER,
  FRAME_ACK,
  FRAME_ENDED,
  FRAME_GOODBYE,
  FRAME_RECALL,
  FRAME_SHOW,
  FRAME_REFUSED
};
enum { HEADER_BYTES = 16, OFFER_BYTES = 48, ENTRY_BYTES = 40, REASON_BYTES = 64, ADDRESS_BYTES = 16 };

#define FRAME_MAGIC 0x52545041u
#define FRAME_VERSION 1u
/* The most that one message can carry (SCM_MAX_FD of net/scm.h): with room for all, MSG_CTRUNC can only mean
 * this process's RLIMIT_NOFILE. */
#define SCM_MOST 253u

static uint32_t get16(const uint8_t* at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t get32(const uint8_t* at) {
  return get16(at) | get16(at + 2) << 16;
}

static uint64_t get64(const uint8_t* at) {
  return (uint64_t)get32(at) | (uint64_t)get32(at + 4) << 32;
}

static void put32(uint8_t* at, uint32_t value) {
  for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (8 * i));
}

static void put_header(uint8_t* frame, uint8_t type, uint32_t length) {
  memset(frame, 0, length);
  put32(frame, FRAME_MAGIC);
  frame[4] = FRAME_VERSION;
  frame[5] = type;
  put32(frame + 8, length);
}

static int is_lower_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* DOMAIN:BUS:DEVICE.FUNCTION as sysfs writes it. Domains of more than 16 bits are real: VMD and some arm64
 * hosts number them from 0x10000. */
static int is_pci_address(const char* text) {
  size_t domain = 0;
  while (is_lower_hex(text[domain])) domain++;
  if (domain < 4 || domain > 8) return 0;
  text += domain;
  return text[0] == ':' && is_lower_hex(text[1]) && is_lower_hex(text[2]) && text[3] == ':' &&
         (text[4] == '0' || text[4] == '1') && is_lower_hex(text[5]) && text[6] == '.' && text[7] >= '0' &&
         text[7] <= '7' && text[8] == '\0';
}

/* Copies a field that is padded with NUL to out, which has one byte more. 0 when something follows the first
 * NUL. */
static int get_text(const uint8_t* at, size_t width, char* out) {
  size_t length = 0;
  while (length < width && at[length] != 0) length++;
  for (size_t i = length; i < width; i++)
    if (at[i] != 0) return 0;
  memcpy(out, at, length);
  out[length] = '\0';
  return 1;
}

static int read_reason(const uint8_t* frame, struct aperture_event* event) {
  if (!get_text(frame + 20, REASON_BYTES, event->reason) || event->reason[0] == '\0') return APERTURE_E_TEXT;
  for (const char* c = event->reason; *c != '\0'; c++)
    if (!((*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '_')) return APERTURE_E_TEXT;
  return 0;
}

static int read_lease(const uint8_t* frame, struct aperture_lease_id* lease) {
  static const uint8_t none[16] = {0};
  memcpy(lease->bytes, frame + 16, sizeof(lease->bytes));
  return memcmp(lease->bytes, none, sizeof(none)) == 0 ? APERTURE_E_FIELD : 0;
}

/* What the page's tables allow for a kind: its scope, and the back ends (bits) that hand it out. */
static const struct {
  uint8_t scope;
  uint8_t backends;
} kinds[] = {
    [APERTURE_IOMMUFD] = {APERTURE_SCOPE_IOMMU, 1u << APERTURE_BACKEND_IOMMUFD},
    [APERTURE_DEVICE_UNBOUND] = {APERTURE_SCOPE_DEVICE, 1u << APERTURE_BACKEND_IOMMUFD},
    [APERTURE_CONTAINER] = {APERTURE_SCOPE_IOMMU, 1u << APERTURE_BACKEND_LEGACY},
    [APERTURE_GROUP] = {APERTURE_SCOPE_DEVICE, 1u << APERTURE_BACKEND_LEGACY},
    [APERTURE_DEVICE] = {APERTURE_SCOPE_DEVICE,
                         1u << APERTURE_BACKEND_IOMMUFD | 1u << APERTURE_BACKEND_LEGACY},
    [APERTURE_REGION] = {APERTURE_SCOPE_REGION, 1u << APERTURE_BACKEND_IOMMUFD |
                                                    1u << APERTURE_BACKEND_LEGACY |
                                                    1u << APERTURE_BACKEND_SIMULATED},
};

static int read_entry(const uint8_t* at, enum aperture_backend backend, struct aperture_descriptor* out) {
  const uint32_t kind = get16(at);
  if (kind < APERTURE_IOMMUFD || kind > APERTURE_REGION) return APERTURE_E_FIELD;
  if (at[2] != kinds[kind].scope || (kinds[kind].backends >> backend & 1u) == 0) return APERTURE_E_FIELD;
  out->fd = -1;
  out->kind = (enum aperture_descriptor_kind)kind;
  out->scope = (enum aperture_scope)at[2];
  out->number = get32(at + 4);
  out->offset = get64(at + 24);
  out->size = get64(at + 32);
  const int numbered = kind == APERTURE_REGION || kind == APERTURE_GROUP;
  if (numbered != (out->number != APERTURE_NO_NUMBER)) return APERTURE_E_FIELD;
  if (kind == APERTURE_REGION) {
    if (out->size == 0 || out->size > INT64_MAX || out->offset > INT64_MAX - out->size)
      return APERTURE_E_FIELD;
  } else if (out->offset != 0 || out->size != 0) {
    return APERTURE_E_FIELD;
  }
  if (!get_text(at + 8, ADDRESS_BYTES, out->address)) return APERTURE_E_TEXT;
  if (kind == APERTURE_IOMMUFD || kind == APERTURE_CONTAINER || kind == APERTURE_GROUP)
    return out->address[0] == '\0' ? 0 : APERTURE_E_TEXT;
  return is_pci_address(out->address) ? 0 : APERTURE_E_TEXT;
}

static int read_offer(const uint8_t* frame, size_t length, struct aperture_offer* offer) {
  if (length < OFFER_BYTES) return APERTURE_E_LENGTH;
  const int wrong = read_lease(frame, &offer->lease);
  if (wrong < 0) return wrong;
  const uint32_t count = get32(frame + 32);
  if (count < 1 || count > APERTURE_MAX_DESCRIPTORS) return APERTURE_E_COUNT;
  if (length != OFFER_BYTES + ENTRY_BYTES * (size_t)count) return APERTURE_E_LENGTH;
  if (frame[36] < APERTURE_LEASE_DEVICE || frame[36] > APERTURE_LEASE_REGION) return APERTURE_E_FIELD;
  if (frame[37] < APERTURE_BACKEND_IOMMUFD || frame[37] > APERTURE_BACKEND_SIMULATED) return APERTURE_E_FIELD;
  offer->kind = (enum aperture_lease_kind)frame[36];
  offer->backend = (enum aperture_backend)frame[37];
  offer->flags = frame[38] & APERTURE_OFFER_SUCCESSION;
  offer->count = count;
  for (uint32_t i = 0; i < count; i++) {
    struct aperture_descriptor* const entry = &offer->descriptors[i];
    const int fault = read_entry(frame + OFFER_BYTES + ENTRY_BYTES * (size_t)i, offer->backend, entry);
    if (fault < 0) return fault;
    /* Two that are told apart by nothing: which one would aperture_find() mean? */
    for (uint32_t j = 0; j < i; j++) {
      const struct aperture_descriptor* const other = &offer->descriptors[j];
      if (other->kind == entry->kind && other->number == entry->number &&
          strcmp(other->address, entry->address) == 0)
        return APERTURE_E_FIELD;
    }
  }
  return 0;
}

static int read_attached(struct aperture_channel* channel, const uint8_t* frame) {
  const uint64_t number = get64(frame + 16);
  const uint32_t max_frame = get32(frame + 24);
  const uint32_t max_descriptors = get32(frame + 28);
  if (channel->number != 0) return APERTURE_E_TYPE;
  if (number == 0 || max_descriptors < 1 || max_descriptors > APERTURE_MAX_DESCRIPTORS)
    return APERTURE_E_FIELD;
  if (max_frame < OFFER_BYTES + ENTRY_BYTES * max_descriptors || max_frame > APERTURE_MAX_FRAME)
    return APERTURE_E_FIELD;
  channel->number = number;
  channel->max_frame = max_frame;
  channel->max_descriptors = max_descriptors;
  channel->ack_ms = get32(frame + 32);
  return 0;
}

static int read_end(const uint8_t* frame, struct aperture_event* event) {
  const int wrong = read_lease(frame, &event->lease);
  if (wrong < 0) return wrong;
  event->cause = get32(frame + 32);
  return event->cause == 0 ? APERTURE_E_FIELD : 0;
}

/* The bytes that a type must have; 0: not one that a daemon sends. OFFER has these at least. */
static size_t length_of(uint8_t type) {
  switch (type) {
    case FRAME_ATTACHED:
    case FRAME_OFFER:
    case FRAME_ENDED:
    case FRAME_RECALL:
      return 48;
    case FRAME_GOODBYE:
    case FRAME_REFUSED:
      return HEADER_BYTES + 4 + REASON_BYTES;
    default:
      return 0;
  }
}

/* Fills event from a frame, without its descriptors. 0 or what is wrong. */
static int read_frame(struct aperture_channel* channel, const uint8_t* frame, size_t length,
                      struct aperture_event* event) {
  int fault = 0;
  if (length < HEADER_BYTES) return APERTURE_E_LENGTH;
  if (get32(frame) != FRAME_MAGIC) return APERTURE_E_MAGIC;
  if (frame[4] != FRAME_VERSION) return APERTURE_E_VERSION;
  if (get32(frame + 8) != length) return APERTURE_E_LENGTH;
  const uint8_t type = frame[5];
  if (length_of(type) == 0) return APERTURE_E_TYPE;
  if (channel->number == 0 && type != FRAME_ATTACHED && type != FRAME_GOODBYE) return APERTURE_E_TYPE;
  if (type != FRAME_OFFER && length != length_of(type)) return APERTURE_E_LENGTH;
  switch (type) {
    case FRAME_ATTACHED:
      event->type = APERTURE_EVENT_ATTACHED;
      return read_attached(channel, frame);
    case FRAME_OFFER:
      event->type = APERTURE_EVENT_OFFER;
      fault = read_offer(frame, length, &event->offer);
      event->lease = event->offer.lease;
      return fault;
    case FRAME_ENDED:
      event->type = APERTURE_EVENT_ENDED;
      return read_end(frame, event);
    case FRAME_RECALL:
      event->type = APERTURE_EVENT_RECALL;
      event->grace_ms = get32(frame + 36);
      return read_end(frame, event);
    case FRAME_GOODBYE:
      event->type = APERTURE_EVENT_GOODBYE;
      return read_reason(frame, event);
    default:
      event->type = APERTURE_EVENT_REFUSED;
      return read_reason(frame, event);
  }
}

/* --- the socket --- */

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* -1: no deadline. */
static int64_t deadline_of(int timeout_ms) {
  return timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
}

static int left_of(int64_t deadline) {
  if (deadline < 0) return -1;
  const int64_t left = deadline - now_ms();
  return left < 0 ? 0 : (int)left;
}

/* 1: something to read (or the end); 0: not in time; -errno. */
static int wait_readable(int fd, int64_t deadline) {
  for (;;) {
    struct pollfd wanted = {fd, POLLIN, 0};
    const int ready = poll(&wanted, 1, left_of(deadline));
    if (ready >= 0) return ready > 0;
    if (errno != EINTR) return -errno;
  }
}

static void close_all(const int* fds, size_t count) {
  for (size_t i = 0; i < count; i++) close(fds[i]);
}

struct message {
  size_t length;
  size_t fd_count;
  int cut;      /* MSG_CTRUNC: not all descriptors arrived */
  int too_long; /* MSG_TRUNC */
  int fds[SCM_MOST];
  uint8_t bytes[APERTURE_MAX_FRAME];
};

/* The descriptors of a message. Those without room in fds cannot be: the kernel writes no more than the
 * buffer has. */
static void take_descriptors(struct msghdr* header, struct message* message) {
  for (struct cmsghdr* part = CMSG_FIRSTHDR(header); part != NULL; part = CMSG_NXTHDR(header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count && message->fd_count < SCM_MOST; i++)
      memcpy(&message->fds[message->fd_count++], CMSG_DATA(part) + i * sizeof(int), sizeof(int));
  }
}

/* 1: a message; 0: nothing there; APERTURE_E_CLOSED: the end; -errno. */
static int receive_message(int fd, struct message* message) {
  union {
    struct cmsghdr aligned;
    uint8_t room[CMSG_SPACE(SCM_MOST * sizeof(int))];
  } control;
  struct iovec bytes = {message->bytes, sizeof(message->bytes)};
  int resets = 0;
  for (;;) {
    struct msghdr header;
    memset(&header, 0, sizeof(header));
    header.msg_iov = &bytes;
    header.msg_iovlen = 1;
    header.msg_control = control.room;
    header.msg_controllen = sizeof(control.room);
    const ssize_t length = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
      /* The daemon closed with a frame of ours unread. Told once, ahead of what it had sent before: its
       * GOODBYE is still to be read. */
      if (errno == ECONNRESET && resets++ == 0) continue;
      return errno == ECONNRESET ? APERTURE_E_CLOSED : -errno;
    }
    message->length = (size_t)length;
    message->fd_count = 0;
    message->cut = (header.msg_flags & MSG_CTRUNC) != 0;
    message->too_long = (header.msg_flags & MSG_TRUNC) != 0;
    take_descriptors(&header, message);
    if (length > 0) return 1;
    close_all(message->fds, message->fd_count);
    return APERTURE_E_CLOSED;
  }
}

static int send_frame(struct aperture_channel* channel, const uint8_t* frame, size_t length) {
  if (channel->error != 0) return channel->error;
  for (;;) {
    const ssize_t sent = send(channel->fd, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == (ssize_t)length) return 0;
    if (sent >= 0) return -EIO;
    /* Its reason may still be there to be read, so the channel is not over before aperture_receive() says so.
     */
    if (errno == EPIPE || errno == ECONNRESET) return APERTURE_E_CLOSED;
    if (errno != EINTR) return -errno;
  }
}

static int send_ack(struct aperture_channel* channel, const struct aperture_lease_id* lease, uint32_t count) {
  uint8_t frame[40];
  put_header(frame, FRAME_ACK, sizeof(frame));
  memcpy(frame + 16, lease->bytes, sizeof(lease->bytes));
  put32(frame + 32, count);
  return send_frame(channel, frame, sizeof(frame));
}

/* --- channel --- */

static void channel_reset(struct aperture_channel* channel) {
  memset(channel, 0, sizeof(*channel));
  channel->fd = -1;
  channel->error = APERTURE_E_CLOSED;
}

/* Nothing of this channel is believed any more. The descriptor stays until aperture_close(): the caller's
 * poll set has it. */
static int channel_fail(struct aperture_channel* channel, int error) {
  channel->error = error;
  shutdown(channel->fd, SHUT_RDWR);
  return error;
}

int aperture_channel_path(const char* target, char* path, size_t size) {
  static const char suffix[] = ".channel";
  if (strncmp(target, "unix://", 7) == 0)
    target += 7;
  else if (strncmp(target, "unix:", 5) == 0)
    target += 5;
  const size_t length = strlen(target);
  if (length == 0) return -EINVAL;
  if (length + sizeof(suffix) > size || length + sizeof(suffix) > sizeof(((struct sockaddr_un*)0)->sun_path))
    return -ENAMETOOLONG;
  memcpy(path, target, length);
  memcpy(path + length, suffix, sizeof(suffix));
  return 0;
}

int aperture_attach_socket(struct aperture_channel* channel, int fd) {
  uint8_t frame[HEADER_BYTES];
  channel_reset(channel);
  channel->fd = fd;
  channel->error = 0;
  put_header(frame, FRAME_ATTACH, sizeof(frame));
  const int sent = send_frame(channel, frame, sizeof(frame));
  if (sent < 0) channel_reset(channel);
  return sent;
}

int aperture_attach_start(struct aperture_channel* channel, const char* path) {
  struct sockaddr_un address;
  const size_t length = strlen(path);
  channel_reset(channel);
  if (length >= sizeof(address.sun_path)) return -ENAMETOOLONG;
  memset(&address, 0, sizeof(address));
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path, length + 1);
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  int result = connect(fd, (const struct sockaddr*)&address, sizeof(address)) < 0 ? -errno : 0;
  if (result == 0) result = aperture_attach_socket(channel, fd);
  if (result < 0) close(fd);
  return result;
}

int aperture_attach(struct aperture_channel* channel, const char* path, int timeout_ms,
                    char goodbye[APERTURE_REASON_CHARS]) {
  const int64_t deadline = deadline_of(timeout_ms);
  struct aperture_event event;
  if (goodbye != NULL) goodbye[0] = '\0';
  int result;
  while ((result = aperture_attach_start(channel, path)) == -EAGAIN) {
    const struct timespec pause = {0, 10 * 1000 * 1000};
    if (left_of(deadline) == 0) return -ETIMEDOUT;
    nanosleep(&pause, NULL);
  }
  if (result < 0) return result;
  while ((result = aperture_receive(channel, &event, left_of(deadline))) == 1) {
    if (event.type == APERTURE_EVENT_ATTACHED) return 0;
    if (goodbye != NULL) memcpy(goodbye, event.reason, sizeof(event.reason));
  }
  aperture_close(channel);
  return result == 0 ? -ETIMEDOUT : result;
}

/* Joins a frame and its descriptors, which are closed unless they belong to an offer from here on. */
static int deliver(struct aperture_channel* channel, const struct message* message,
                   struct aperture_event* event) {
  int fault =
      message->too_long ? APERTURE_E_LENGTH : read_frame(channel, message->bytes, message->length, event);
  const int is_offer = fault == 0 && event->type == APERTURE_EVENT_OFFER;
  if (fault == 0 && !message->cut && message->fd_count != (is_offer ? event->offer.count : 0))
    fault = APERTURE_E_DESCRIPTORS;
  /* A cut message has lost descriptors: an offer, with more than arrived, can have been sent so. Nothing else
   * may carry any. */
  if (fault == 0 && message->cut && (!is_offer || message->fd_count >= event->offer.count))
    fault = APERTURE_E_DESCRIPTORS;
  if (fault < 0 || message->cut) close_all(message->fds, message->fd_count);
  if (fault < 0) {
    memset(event, 0, sizeof(*event));
    return channel_fail(channel, fault);
  }
  if (event->type == APERTURE_EVENT_OFFER || event->type == APERTURE_EVENT_REFUSED) channel->showing = 0;
  if (message->cut) {
    event->type = APERTURE_EVENT_TRUNCATED;
    (void)send_ack(channel, &event->lease,
                   0); /* when it cannot be sent, the end of the channel says the same */
  } else if (is_offer) {
    for (uint32_t i = 0; i < event->offer.count; i++) event->offer.descriptors[i].fd = message->fds[i];
  }
  return 1;
}

int aperture_receive(struct aperture_channel* channel, struct aperture_event* event, int timeout_ms) {
  struct message message;
  const int64_t deadline = deadline_of(timeout_ms);
  memset(event, 0, sizeof(*event));
  if (channel->error != 0) return channel->error;
  for (;;) {
    const int got = receive_message(channel->fd, &message);
    if (got < 0) return channel_fail(channel, got);
    if (got > 0) return deliver(channel, &message, event);
    if (timeout_ms == 0) return 0;
    const int ready = wait_readable(channel->fd, deadline);
    if (ready <= 0) return ready < 0 ? channel_fail(channel, ready) : 0;
  }
}

int aperture_accept(struct aperture_channel* channel, const struct aperture_offer* offer) {
  return send_ack(channel, &offer->lease, offer->count);
}

int aperture_decline(struct aperture_channel* channel, struct aperture_offer* offer) {
  aperture_offer_close(offer);
  return send_ack(channel, &offer->lease, 0);
}

int aperture_show(struct aperture_channel* channel, const uint8_t ticket[APERTURE_TICKET_BYTES]) {
  uint8_t frame[HEADER_BYTES + APERTURE_TICKET_BYTES];
  if (channel->error != 0) return channel->error;
  if (channel->showing) return APERTURE_E_SHOWING;
  put_header(frame, FRAME_SHOW, sizeof(frame));
  memcpy(frame + HEADER_BYTES, ticket, APERTURE_TICKET_BYTES);
  const int sent = send_frame(channel, frame, sizeof(frame));
  if (sent == 0) channel->showing = 1;
  return sent;
}

int aperture_ticket_parse(const char* text, uint8_t ticket[APERTURE_TICKET_BYTES]) {
  for (size_t i = 0; i < 2 * APERTURE_TICKET_BYTES; i++) {
    const char c = text[i];
    int digit;
    if (c >= '0' && c <= '9')
      digit = c - '0';
    else if (c >= 'a' && c <= 'f')
      digit = c - 'a' + 10;
    else if (c >= 'A' && c <= 'F')
      digit = c - 'A' + 10;
    else
      return -EINVAL;
    ticket[i / 2] = (uint8_t)(i % 2 == 0 ? digit << 4 : ticket[i / 2] | digit);
  }
  return text[2 * APERTURE_TICKET_BYTES] == '\0' ? 0 : -EINVAL;
}

void aperture_close(struct aperture_channel* channel) {
  if (channel->fd >= 0) close(channel->fd);
  channel_reset(channel);
}

struct aperture_descriptor* aperture_find(struct aperture_offer* offer, enum aperture_descriptor_kind kind,
                                          const char* address) {
  for (uint32_t i = 0; i < offer->count; i++) {
    struct aperture_descriptor* const descriptor = &offer->descriptors[i];
    if (descriptor->kind == kind && (address == NULL || strcmp(descriptor->address, address) == 0))
      return descriptor;
  }
  return NULL;
}

void aperture_offer_close(struct aperture_offer* offer) {
  for (uint32_t i = offer->count; i-- > 0;) {
    if (offer->descriptors[i].fd >= 0) close(offer->descriptors[i].fd);
    offer->descriptors[i].fd = -1;
  }
}

void aperture_lease_id_text(const struct aperture_lease_id* lease, char text[37]) {
  static const char digits[] = "0123456789abcdef";
  size_t at = 0;
  for (size_t i = 0; i < sizeof(lease->bytes); i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text[at++] = '-';
    text[at++] = digits[lease->bytes[i] >> 4];
    text[at++] = digits[lease->bytes[i] & 15];
  }
  text[at] = '\0';
}

const char* aperture_cause_name(uint32_t cause) {
  static const char* const names[] = {
      "UNKNOWN",        "RELEASED",        "HOLDER_DIED",    "NOT_ACKNOWLEDGED",
      "SHORT_HANDOVER", "HANDOVER_FAILED", "DEVICE_REMOVED", "TICKET_EXPIRED",
      "EXPIRED",        "SESSION_ENDED",   "SUCCEEDED",      "OPEN_FAILED",
  };
  return names[cause < sizeof(names) / sizeof(names[0]) ? cause : 0];
}

char* aperture_error_text(int error, char* buffer, size_t size) {
  static const char* const texts[] = {
      "the channel is over",
      "the daemon's frame has another magic number: is this the descriptor channel?",
      "the daemon's frame has another version",
      "the daemon's frame has a type that does not belong here",
      "the daemon's frame has the wrong length",
      "the daemon's offer has no descriptors, or too many",
      "the daemon's frame has a number that does not belong there",
      "the daemon's frame has a text that does not belong there",
      "the daemon's frame and its descriptors do not belong together",
      "a ticket was shown that is not answered yet",
      "the driver's capability chain is broken",
      "the region's numbers contradict each other or the page size",
      "the region has more areas than this library takes",
      "nothing of the region can be mapped",
      "not mappable, and not the tail: use the descriptor",
  };
  if (size == 0) return buffer;
  const int index = APERTURE_E_CLOSED - error;
  if (index >= 0 && index < (int)(sizeof(texts) / sizeof(texts[0])))
    snprintf(buffer, size, "%s", texts[index]);
  else if (strerror_r(error < 0 ? -error : error, buffer, size) != 0)
    snprintf(buffer, size, "error %d", error);
  return buffer;
}

/* --- device descriptors --- */

int aperture_bind(int device, int iommufd, uint32_t* device_id) {
  struct vfio_bind bind = {sizeof(bind), 0, iommufd, 0};
  if (ioctl(device, VFIO_REQUEST_BIND_IOMMUFD, &bind) < 0) return -errno;
  if (device_id != NULL) *device_id = bind.out_devid;
  return 0;
}

int aperture_device_address(int device, char address[APERTURE_ADDRESS_CHARS]) {
  static const char key[] = "vfio-device-syspath:";
  char path[48];
  char text[1024];
  address[0] = '\0';
  snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", device);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  const ssize_t length = read(fd, text, sizeof(text) - 1);
  const int failed = errno;
  close(fd);
  if (length < 0) return -failed;
  text[length] = '\0';
  char* line = strstr(text, key);
  if (line == NULL) return 0;
  line[strcspn(line, "\n")] = '\0';
  const char* const name = strrchr(line, '/');
  if (name == NULL || !is_pci_address(name + 1)) return 0;
  memcpy(address, name + 1, strlen(name + 1) + 1);
  return 1;
}

/* --- regions --- */

int aperture_region_set_areas(struct aperture_region* region, const struct aperture_area* areas,
                              size_t count) {
  uint32_t kept = 0;
  struct aperture_area sorted[APERTURE_MAX_AREAS];
  for (size_t i = 0; i < count; i++) {
    const struct aperture_area area = areas[i];
    if (area.offset > region->size || area.size > region->size - area.offset) return APERTURE_E_REGION;
    /* Drivers do report empty areas (a BAR that the MSI-X table fills). */
    if (area.size == 0) continue;
    if (kept == APERTURE_MAX_AREAS) return APERTURE_E_TOO_MANY;
    /* The ABI promises no order. */
    uint32_t at = kept++;
    for (; at > 0 && sorted[at - 1].offset > area.offset; at--) sorted[at] = sorted[at - 1];
    sorted[at] = area;
  }
  for (uint32_t i = 1; i < kept; i++)
    if (sorted[i].offset - sorted[i - 1].offset < sorted[i - 1].size) return APERTURE_E_REGION;
  memset(region->areas, 0, sizeof(region->areas));
  if (kept > 0) memcpy(region->areas, sorted, kept * sizeof(sorted[0]));
  region->area_count = kept;
  region->backed_size = kept == 0 ? 0 : sorted[kept - 1].offset + sorted[kept - 1].size;
  return 0;
}

/* The areas of a SPARSE_MMAP capability at `at`; *end becomes the first byte behind them. */
static int read_sparse(const uint8_t* info, size_t length, size_t at, struct aperture_region* region,
                       size_t* end) {
  struct aperture_area areas[APERTURE_MAX_AREAS];
  if (length - at < 16) return APERTURE_E_CAPABILITIES;
  const uint32_t count = get32(info + at + 8);
  if (count > (length - at - 16) / 16) return APERTURE_E_CAPABILITIES;
  if (count > APERTURE_MAX_AREAS) return APERTURE_E_TOO_MANY;
  for (uint32_t i = 0; i < count; i++) {
    /* The kernel aligns capabilities only since 6.6 (vfio_info_cap_add), and writes them in its own byte
     * order. */
    memcpy(&areas[i].offset, info + at + 16 + 16 * (size_t)i, 8);
    memcpy(&areas[i].size, info + at + 24 + 16 * (size_t)i, 8);
  }
  *end = at + 16 + 16 * (size_t)count;
  return aperture_region_set_areas(region, areas, count);
}

static int walk_capabilities(const uint8_t* info, size_t length, size_t at, struct aperture_region* region) {
  /* Every link must lead past the end of what was read before it: that refuses loops without counting, and
   * the kernel only ever appends. */
  size_t floor = sizeof(struct vfio_region_answer);
  int sparse = 0;
  int typed = 0;
  do {
    uint16_t id;
    uint16_t version;
    uint32_t next;
    if (at < floor || at > length || length - at < 8) return APERTURE_E_CAPABILITIES;
    memcpy(&id, info + at, 2);
    memcpy(&version, info + at + 2, 2);
    memcpy(&next, info + at + 4, 4);
    size_t end = at + 8;
    if (id == CAP_SPARSE_MMAP) {
      /* A later version may mean other bytes. Skipping it would claim that the whole region can be mapped. */
      if (sparse++ || version != 1) return APERTURE_E_CAPABILITIES;
      const int fault = read_sparse(info, length, at, region, &end);
      if (fault < 0) return fault;
    } else if (id == CAP_TYPE) {
      if (typed++ || version != 1 || length - at < 16) return APERTURE_E_CAPABILITIES;
      memcpy(&region->type, info + at + 8, 4);
      memcpy(&region->subtype, info + at + 12, 4);
      end = at + 16;
    } else if (id == CAP_MSIX_MAPPABLE) {
      region->msix_mappable = 1;
    }
    floor = end;
    at = next;
  } while (at != 0);
  return 0;
}

int aperture_region_parse(const void* info, size_t length, uint32_t index, struct aperture_region* region) {
  struct vfio_region_answer answer;
  memset(region, 0, sizeof(*region));
  if (length < sizeof(answer)) return APERTURE_E_REGION;
  memcpy(&answer, info, sizeof(answer));
  if (answer.index != index || answer.size > INT64_MAX || answer.offset > INT64_MAX - answer.size)
    return APERTURE_E_REGION;
  region->index = index;
  region->flags = answer.flags & (APERTURE_REGION_READ | APERTURE_REGION_WRITE | APERTURE_REGION_MMAP);
  region->size = answer.size;
  region->offset = answer.offset;
  /* Without a SPARSE_MMAP capability all of a region can be mapped, or none. */
  const struct aperture_area whole = {0, answer.size};
  int fault = aperture_region_set_areas(region, &whole, (answer.flags & APERTURE_REGION_MMAP) != 0 ? 1 : 0);
  region->backed_size = answer.size;
  if (fault == 0 && (answer.flags & VFIO_REGION_HAS_CAPS) != 0)
    fault = walk_capabilities(info, length, answer.cap_offset, region);
  return fault;
}

int aperture_region_info(int device, uint32_t index, struct aperture_region* region) {
  /* With APERTURE_MAX_AREAS a chain has about 600 bytes. */
  union {
    struct vfio_region_answer answer;
    uint8_t bytes[4096];
  } info;
  uint32_t argsz = sizeof(struct vfio_region_answer);
  /* A second question with the room that the first one asked for; the third covers a chain that grew in
   * between. */
  for (int round = 0; round < 3; round++) {
    memset(&info, 0, sizeof(info));
    info.answer.argsz = argsz;
    info.answer.index = index;
    if (ioctl(device, VFIO_REQUEST_GET_REGION_INFO, &info) < 0) return -errno;
    if (info.answer.argsz <= argsz) return aperture_region_parse(&info, argsz, index, region);
    if (info.answer.argsz > sizeof(info)) return APERTURE_E_TOO_MANY;
    argsz = info.answer.argsz;
  }
  return APERTURE_E_CAPABILITIES;
}

int aperture_region_of(const struct aperture_descriptor* descriptor, struct aperture_region* region) {
  struct stat file;
  memset(region, 0, sizeof(*region));
  if (descriptor->kind != APERTURE_REGION) return -EINVAL;
  const int mode = fcntl(descriptor->fd, F_GETFL);
  if (mode < 0 || fstat(descriptor->fd, &file) < 0) return -errno;
  const uint64_t end = (uint64_t)file.st_size;
  const uint64_t behind = end > descriptor->offset ? end - descriptor->offset : 0;
  region->index = descriptor->number;
  region->flags = APERTURE_REGION_READ | APERTURE_REGION_MMAP |
                  ((mode & O_ACCMODE) == O_RDWR ? APERTURE_REGION_WRITE : 0);
  region->size = descriptor->size;
  region->offset = descriptor->offset;
  region->whole_file = 1;
  const struct aperture_area backed = {0, behind < descriptor->size ? behind : descriptor->size};
  return aperture_region_set_areas(region, &backed, 1);
}

/* How much of [offset, offset + length) lies in the region; -EINVAL when nothing can. */
static int64_t clip(uint64_t size, uint64_t offset, size_t length) {
  if (offset >= size) return -EINVAL;
  const uint64_t rest = size - offset;
  return (int64_t)(length < rest ? length : rest);
}

/* A file ends where its memory does: what lies behind must not be written to it. A driver has its own answer
 * there, and registers that cannot be mapped may lie behind the last area, so a device is always asked. */
static int64_t ask_up_to(const struct aperture_region* region, uint64_t offset, int64_t wanted) {
  if (!region->whole_file) return wanted;
  const uint64_t backed = offset < region->backed_size ? region->backed_size - offset : 0;
  return backed < (uint64_t)wanted ? (int64_t)backed : wanted;
}

int64_t aperture_region_read(int fd, const struct aperture_region* region, uint64_t offset, void* buffer,
                             size_t length) {
  const int64_t wanted = clip(region->size, offset, length);
  if (wanted < 0) return wanted;
  const int64_t asked = ask_up_to(region, offset, wanted);
  for (int64_t done = 0; done < asked;) {
    const ssize_t got =
        pread(fd, (uint8_t*)buffer + done, (size_t)(asked - done), (off_t)(region->offset + offset) + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) return -EIO;
    done += got;
  }
  memset((uint8_t*)buffer + asked, 0xff, (size_t)(wanted - asked));
  return wanted;
}

int64_t aperture_region_write(int fd, const struct aperture_region* region, uint64_t offset,
                              const void* buffer, size_t length) {
  const int64_t wanted = clip(region->size, offset, length);
  if (wanted < 0) return wanted;
  const int64_t asked = ask_up_to(region, offset, wanted);
  for (int64_t done = 0; done < asked;) {
    const ssize_t put = pwrite(fd, (const uint8_t*)buffer + done, (size_t)(asked - done),
                               (off_t)(region->offset + offset) + done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return -errno;
    if (put == 0) return -EIO;
    done += put;
  }
  return wanted;
}

/* --- mapping --- */

/* Address space only: no memory and no commit charge. */
#define RESERVE_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

/* A leaf of the page table needs virtual and file offset to be congruent at its own size, and room for
 * itself. Misaligned, the same memory costs 20 times the page faults. */
static uint64_t alignment_for(uint64_t size, uint64_t page) {
  const uint64_t huge = UINT64_C(1) << 30;
  const uint64_t large = UINT64_C(1) << 21;
  return size >= huge ? huge : size >= large ? large : page;
}

/* The kernel gives addresses from the top down, so what lies right below the last reservation is most likely
 * free. Only a guess, of all threads: MAP_FIXED_NOREPLACE takes nobody's place. 0: none yet. */
static uintptr_t below;

/* A range of `length` that is PROT_NONE and congruent with `offset` modulo `alignment`. */
static int reserve(uint64_t length, uint64_t alignment, uint64_t offset, uint64_t page, uint8_t** base) {
  const uint64_t total = length + alignment - page;
  if (total > SIZE_MAX) return -ENOMEM;
  const uint64_t top = __atomic_load_n(&below, __ATOMIC_RELAXED);
  if (top > total) {
    const uint64_t most = top - length;
    void* const wanted = (void*)(uintptr_t)(most - ((most - offset) & (alignment - 1)));
    void* const got = mmap(wanted, (size_t)length, PROT_NONE, RESERVE_FLAGS | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == wanted) {
      *base = (uint8_t*)got;
      __atomic_store_n(&below, (uintptr_t)got, __ATOMIC_RELAXED);
      return 0;
    }
  }
  /* Every congruent base lies within `alignment` of any start; what is too much goes back at once. */
  void* const raw = mmap(NULL, (size_t)total, PROT_NONE, RESERVE_FLAGS, -1, 0);
  if (raw == MAP_FAILED) return -errno;
  uint8_t* const start = (uint8_t*)raw;
  const uint64_t skip = (offset - (uint64_t)(uintptr_t)start) & (alignment - 1);
  const uint64_t rest = total - skip - length;
  if (skip > 0) munmap(start, (size_t)skip);
  if (rest > 0) munmap(start + skip + length, (size_t)rest);
  *base = start + skip;
  __atomic_store_n(&below, (uintptr_t)*base, __ATOMIC_RELAXED);
  return 0;
}

/* Whether the areas can be mapped in pages. */
static int check_areas(const struct aperture_region* region, uint64_t page) {
  const uint64_t most = INT64_MAX - (UINT64_C(1) << 30) - page;
  if (region->area_count > APERTURE_MAX_AREAS || region->size > most || region->offset % page != 0)
    return APERTURE_E_REGION;
  if (region->size == 0 || region->area_count == 0) return APERTURE_E_NOT_MAPPABLE;
  uint64_t floor = 0;
  for (uint32_t i = 0; i < region->area_count; i++) {
    const struct aperture_area area = region->areas[i];
    if (area.size == 0 || area.offset < floor || area.offset > region->size ||
        area.size > region->size - area.offset)
      return APERTURE_E_REGION;
    /* A BAR smaller than a page can be mapped when nothing else is in its page; then its area is the region's
     * end. */
    if (area.offset % page != 0 || (area.size % page != 0 && area.offset + area.size != region->size))
      return APERTURE_E_REGION;
    floor = area.offset + area.size;
  }
  return 0;
}

static int map_areas(struct aperture_mapping* map, int fd, const struct aperture_region* region) {
  const int protection = (map->flags & APERTURE_MAP_WRITE) != 0 ? PROT_READ | PROT_WRITE : PROT_READ;
  for (uint32_t i = 0; i < map->area_count; i++) {
    const struct aperture_area area = map->areas[i];
    /* MAP_SHARED always: a private mapping of an nvgrace region is a kernel BUG() on first read
     * (Linux 7.3.4). */
    if (mmap(map->base + area.offset, (size_t)area.size, protection, MAP_SHARED | MAP_FIXED, fd,
             (off_t)(region->offset + area.offset)) == MAP_FAILED)
      return -errno;
  }
  return 0;
}

static int map_tail(struct aperture_mapping* map, uint64_t page) {
  const struct aperture_area last = map->areas[map->area_count - 1];
  const uint64_t tail = (last.offset + last.size + page - 1) / page * page;
  if ((map->flags & APERTURE_MAP_READABLE_TAIL) == 0 || tail >= map->reserved) return 0;
  /* One mapping, read-only: every load of it is the huge zero page. Nothing is ever allocated. */
  if (mprotect(map->base + tail, (size_t)(map->reserved - tail), PROT_READ) < 0) return -errno;
  /* Without transparent huge pages it is only slower. */
  (void)madvise(map->base + tail, (size_t)(map->reserved - tail), MADV_HUGEPAGE);
  return 0;
}

int aperture_map(struct aperture_mapping* map, int fd, const struct aperture_region* region, uint32_t flags) {
  const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  memset(map, 0, sizeof(*map));
  if ((flags & ~(APERTURE_MAP_WRITE | APERTURE_MAP_READABLE_TAIL)) != 0) return -EINVAL;
  int result = check_areas(region, page);
  if (result < 0) return result;
  map->size = region->size;
  map->reserved = (region->size + page - 1) / page * page;
  map->flags = flags;
  map->area_count = region->area_count;
  memcpy(map->areas, region->areas, sizeof(map->areas));
  result = reserve(map->reserved, alignment_for(region->size, page), region->offset, page, &map->base);
  if (result == 0) result = map_areas(map, fd, region);
  if (result == 0) result = map_tail(map, page);
  if (result < 0) aperture_unmap(map);
  return result;
}

int aperture_unmap(struct aperture_mapping* map) {
  if (map->base != NULL) {
    if (munmap(map->base, (size_t)map->reserved) < 0) return -errno;
    /* The last one gives its place back. */
    uintptr_t own = (uintptr_t)map->base;
    __atomic_compare_exchange_n(&below, &own, own + (uintptr_t)map->reserved, 0, __ATOMIC_RELAXED,
                                __ATOMIC_RELAXED);
  }
  memset(map, 0, sizeof(*map));
  return 0;
}

enum place { PLACE_AREA, PLACE_HOLE, PLACE_TAIL };

/* What lies at `offset` (below size), and how far it reaches. A hole has an area behind it, the tail has
 * none. */
static enum place place_of(const struct aperture_mapping* map, uint64_t offset, uint64_t* reach) {
  for (uint32_t i = 0; i < map->area_count; i++) {
    const struct aperture_area area = map->areas[i];
    if (offset < area.offset) {
      *reach = area.offset - offset;
      return PLACE_HOLE;
    }
    if (offset - area.offset < area.size) {
      *reach = area.size - (offset - area.offset);
      return PLACE_AREA;
    }
  }
  *reach = map->size - offset;
  return PLACE_TAIL;
}

/* A device may do something else, or nothing, for four byte-wide loads than for one of 32 bits. */
static size_t width_at(uintptr_t address, uint64_t rest) {
  size_t width = 8;
  while (width > 1 && (address % width != 0 || width > rest)) width /= 2;
  return width;
}

static void load_from(const volatile uint8_t* from, uint8_t* to, uint64_t rest) {
  while (rest > 0) {
    const size_t width = width_at((uintptr_t)from, rest);
    if (width == 8) {
      const uint64_t value = *(const volatile uint64_t*)from;
      memcpy(to, &value, 8);
    } else if (width == 4) {
      const uint32_t value = *(const volatile uint32_t*)from;
      memcpy(to, &value, 4);
    } else if (width == 2) {
      const uint16_t value = *(const volatile uint16_t*)from;
      memcpy(to, &value, 2);
    } else {
      *to = *from;
    }
    from += width;
    to += width;
    rest -= width;
  }
}

static void store_to(volatile uint8_t* to, const uint8_t* from, uint64_t rest) {
  while (rest > 0) {
    const size_t width = width_at((uintptr_t)to, rest);
    if (width == 8) {
      uint64_t value;
      memcpy(&value, from, 8);
      *(volatile uint64_t*)to = value;
    } else if (width == 4) {
      uint32_t value;
      memcpy(&value, from, 4);
      *(volatile uint32_t*)to = value;
    } else if (width == 2) {
      uint16_t value;
      memcpy(&value, from, 2);
      *(volatile uint16_t*)to = value;
    } else {
      *to = *from;
    }
    to += width;
    from += width;
    rest -= width;
  }
}

/* 0, or APERTURE_E_HOLE before anything is touched. */
static int check_holes(const struct aperture_mapping* map, uint64_t offset, uint64_t length) {
  uint64_t reach = 0;
  for (uint64_t done = 0; done < length; done += reach)
    if (place_of(map, offset + done, &reach) == PLACE_HOLE) return APERTURE_E_HOLE;
  return 0;
}

int64_t aperture_mapping_read(const struct aperture_mapping* map, uint64_t offset, void* buffer,
                              size_t length) {
  const int64_t wanted = clip(map->size, offset, length);
  if (wanted < 0) return wanted;
  const int fault = check_holes(map, offset, (uint64_t)wanted);
  if (fault < 0) return fault;
  uint64_t part = 0;
  for (uint64_t done = 0; done < (uint64_t)wanted; done += part) {
    const enum place place = place_of(map, offset + done, &part);
    if (part > (uint64_t)wanted - done) part = (uint64_t)wanted - done;
    if (place == PLACE_AREA)
      load_from(map->base + offset + done, (uint8_t*)buffer + done, part);
    else
      memset((uint8_t*)buffer + done, 0xff, (size_t)part);
  }
  return wanted;
}

int64_t aperture_mapping_write(const struct aperture_mapping* map, uint64_t offset, const void* buffer,
                               size_t length) {
  if ((map->flags & APERTURE_MAP_WRITE) == 0) return -EACCES;
  const int64_t wanted = clip(map->size, offset, length);
  if (wanted < 0) return wanted;
  const int fault = check_holes(map, offset, (uint64_t)wanted);
  if (fault < 0) return fault;
  uint64_t part = 0;
  for (uint64_t done = 0; done < (uint64_t)wanted; done += part) {
    const enum place place = place_of(map, offset + done, &part);
    if (part > (uint64_t)wanted - done) part = (uint64_t)wanted - done;
    if (place == PLACE_AREA) store_to(map->base + offset + done, (const uint8_t*)buffer + done, part);
  }
  return wanted;
}
