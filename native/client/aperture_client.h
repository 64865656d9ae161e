/* Aperture's client in C: the descriptor channel of docs/PROTOCOL.md, and the mapping of a padded aperture.
 *
 * One header and one source file: copy them, or compile them as they are. C11; the header is also C99 and
 * C++. Nothing but libc.
 *
 *   - Nothing is allocated: every structure is the caller's. No global state, no thread, no signal handler,
 *     no abort().
 *   - Every descriptor that arrives is close-on-exec and has an owner from the line that received it: all
 *     that an offer carries arrive, or none is left open.
 *   - The daemon is distrusted too: a frame that is not exactly what the protocol says closes what came with
 *     it, and ends the channel.
 *   - Threads: use one channel, one offer and one mapping from one thread at a time; different ones are
 *     independent. A mapping may be read and written by many threads at once.
 *   - Processes: the daemon lets only the process that connected speak on a channel. Connect after fork(),
 *     not before.
 *
 * Functions return 0 or more, or a negative error: -errno of a system call, or one of enum aperture_error.
 * aperture_error_text() has words for both.
 *
 * The order of calls is in docs/VMM-AUTHORS.md, what each descriptor is worth in docs/DESCRIPTORS.md. */
#ifndef APERTURE_CLIENT_H
#define APERTURE_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- errors --- */

enum aperture_error {
  /* The channel is over: the daemon closed it, or it failed before. */
  APERTURE_E_CLOSED = -10001,
  /* From here to DESCRIPTORS: a frame that is not what the protocol says. The channel is over. */
  APERTURE_E_MAGIC = -10002,
  APERTURE_E_VERSION = -10003,
  /* Unknown, or not now. */
  APERTURE_E_TYPE = -10004,
  /* Header and message disagree, or the type has another length. */
  APERTURE_E_LENGTH = -10005,
  /* An offer of no descriptor, or of more than APERTURE_MAX_DESCRIPTORS. */
  APERTURE_E_COUNT = -10006,
  /* A number that the protocol does not have, or that contradicts its neighbours. */
  APERTURE_E_FIELD = -10007,
  /* An address that is no PCI address, a reason that is no reason. */
  APERTURE_E_TEXT = -10008,
  /* Other descriptors than the frame says. */
  APERTURE_E_DESCRIPTORS = -10009,
  /* A ticket was shown and is not answered yet. */
  APERTURE_E_SHOWING = -10010,
  /* The driver's capability chain loops, leads backward or leaves its buffer. */
  APERTURE_E_CAPABILITIES = -10011,
  /* The region's numbers contradict each other, or the page size. */
  APERTURE_E_REGION = -10012,
  /* More areas than APERTURE_MAX_AREAS. */
  APERTURE_E_TOO_MANY = -10013,
  /* Nothing of the region can be mapped: read and write it by the descriptor. */
  APERTURE_E_NOT_MAPPABLE = -10014,
  /* Between two areas (an MSI-X table): neither memory nor tail. */
  APERTURE_E_HOLE = -10015
};

/* Writes words for an error (also for a positive errno) to buffer, always terminated, and returns buffer. 128
 * bytes hold the longest. */
char* aperture_error_text(int error, char* buffer, size_t size);

/* --- descriptor channel --- */

#define APERTURE_MAX_DESCRIPTORS 32u
#define APERTURE_MAX_FRAME (48u + 40u * APERTURE_MAX_DESCRIPTORS)
#define APERTURE_TICKET_BYTES 16u

/* The 16 bytes of a lease's UUID, in the order in which it is written. */
struct aperture_lease_id {
  uint8_t bytes[16];
};

enum aperture_descriptor_kind {
  APERTURE_IOMMUFD = 1,        /* a fresh /dev/iommu of this lease alone */
  APERTURE_DEVICE_UNBOUND = 2, /* /dev/vfio/devices/vfioN: aperture_bind() it before anything else */
  APERTURE_CONTAINER = 3,      /* /dev/vfio/vfio, group attached, VFIO_TYPE1v2_IOMMU set */
  APERTURE_GROUP = 4,          /* /dev/vfio/N */
  APERTURE_DEVICE = 5,         /* ready for use */
  APERTURE_REGION = 6          /* one region; there is no device behind it */
};

enum aperture_scope { APERTURE_SCOPE_DEVICE = 1, APERTURE_SCOPE_REGION = 2, APERTURE_SCOPE_IOMMU = 3 };
enum aperture_backend {
  APERTURE_BACKEND_IOMMUFD = 1,
  APERTURE_BACKEND_LEGACY = 2,
  APERTURE_BACKEND_SIMULATED = 3
};
enum aperture_lease_kind { APERTURE_LEASE_DEVICE = 1, APERTURE_LEASE_REGION = 2 };

/* Flags of an offer. Succession: these are the open files of the holder before, bound already. */
#define APERTURE_OFFER_SUCCESSION 1u

#define APERTURE_NO_NUMBER UINT32_MAX
#define APERTURE_ADDRESS_CHARS 17u

struct aperture_descriptor {
  int fd; /* the caller's to close; -1 once it is closed or taken */
  enum aperture_descriptor_kind kind;
  enum aperture_scope scope;
  uint32_t number; /* region index of a REGION, number of a GROUP, else APERTURE_NO_NUMBER */
  char address[APERTURE_ADDRESS_CHARS]; /* PCI address; empty for IOMMUFD, CONTAINER, GROUP */
  uint64_t offset;                      /* REGION: where it begins in the descriptor, bytes */
  uint64_t size;                        /* REGION: bytes, padded; 0 for the others */
};

struct aperture_offer {
  struct aperture_lease_id lease;
  enum aperture_lease_kind kind;
  enum aperture_backend backend;
  uint32_t flags; /* APERTURE_OFFER_*; unknown ones are left out */
  uint32_t count;
  struct aperture_descriptor descriptors[APERTURE_MAX_DESCRIPTORS]; /* in the daemon's order */
};

/* Why a lease ended or is recalled: EndCause of lease.proto. A later daemon may send further numbers. */
enum aperture_cause {
  APERTURE_CAUSE_RELEASED = 1,
  APERTURE_CAUSE_HOLDER_DIED = 2,
  APERTURE_CAUSE_NOT_ACKNOWLEDGED = 3,
  APERTURE_CAUSE_SHORT_HANDOVER = 4,
  APERTURE_CAUSE_HANDOVER_FAILED = 5,
  APERTURE_CAUSE_DEVICE_REMOVED = 6,
  APERTURE_CAUSE_TICKET_EXPIRED = 7,
  APERTURE_CAUSE_EXPIRED = 8,
  APERTURE_CAUSE_SESSION_ENDED = 9,
  APERTURE_CAUSE_SUCCEEDED = 10,
  APERTURE_CAUSE_OPEN_FAILED = 11
};

/* The cause's name as in lease.proto, or "UNKNOWN". */
const char* aperture_cause_name(uint32_t cause);

enum aperture_event_type {
  APERTURE_EVENT_NONE = 0,
  /* The channel's number and limits stand in struct aperture_channel. */
  APERTURE_EVENT_ATTACHED = 1,
  /* Answer with aperture_accept() or aperture_decline(), within ack_ms. */
  APERTURE_EVENT_OFFER = 2,
  /* An offer did not fit (RLIMIT_NOFILE). What came of it is closed, and the lease is declined. */
  APERTURE_EVENT_TRUNCATED = 3,
  /* Stop, close everything of the lease, release it or exit: within grace_ms. */
  APERTURE_EVENT_RECALL = 4,
  /* The lease is over. Close what is open of it, or its device stays in quarantine. */
  APERTURE_EVENT_ENDED = 5,
  /* The ticket gave nothing: reason. */
  APERTURE_EVENT_REFUSED = 6,
  /* The daemon closes the channel: reason. Leases that are held go on. */
  APERTURE_EVENT_GOODBYE = 7
};

#define APERTURE_REASON_CHARS 65u

/* What does not apply to the type is 0. */
struct aperture_event {
  enum aperture_event_type type;
  struct aperture_lease_id lease;     /* OFFER, TRUNCATED, RECALL, ENDED */
  uint32_t cause;                     /* RECALL, ENDED: enum aperture_cause */
  uint32_t grace_ms;                  /* RECALL: milliseconds until the daemon ends the lease by itself */
  char reason[APERTURE_REASON_CHARS]; /* REFUSED, GOODBYE: docs/REASONS.md */
  struct aperture_offer offer;        /* OFFER; of TRUNCATED without descriptors */
};

/* A channel. Read the fields, do not write them. */
struct aperture_channel {
  int fd;             /* for the caller's poll(): POLLIN says that aperture_receive() has work. -1: closed */
  int error;          /* what every further call returns; 0 while the channel is good */
  int showing;        /* a ticket waits for its answer */
  uint64_t number;    /* for AcquireLeaseRequest.channel; 0 before ATTACHED */
  uint32_t max_frame; /* bytes */
  uint32_t max_descriptors; /* in one offer */
  uint32_t ack_ms;          /* time to answer an offer, milliseconds */
};

/* The channel's path for a gRPC target: "/run/x.sock", "unix:/run/x.sock" and "unix:///run/x.sock" become
 * "/run/x.sock.channel". */
int aperture_channel_path(const char* target, char* path, size_t size);

/* Connects to the channel's path, attaches, waits for ATTACHED. timeout_ms: -1 for ever. -ETIMEDOUT;
 * APERTURE_E_CLOSED when the daemon refused (then *goodbye, unless it is NULL, holds its reason or ""). On
 * failure the channel is closed. */
int aperture_attach(struct aperture_channel* channel, const char* path, int timeout_ms,
                    char goodbye[APERTURE_REASON_CHARS]);

/* The same without waiting, for an event loop: ATTACHED comes as an event. -EAGAIN: the daemon's backlog is
 * full, try again. */
int aperture_attach_start(struct aperture_channel* channel, const char* path);

/* The same on a connected SOCK_SEQPACKET socket, which this process itself must have connected. Taken over
 * when this returns 0. */
int aperture_attach_socket(struct aperture_channel* channel, int fd);

/* The next event. timeout_ms: 0 does not wait, -1 waits for ever; signals do not cut it short.
 * 1: *event is filled. 0: nothing came in time. Negative: the channel is over, aperture_close() it; leases
 * that are held go on. The descriptors of an OFFER belong to the caller from here on, whatever it does. */
int aperture_receive(struct aperture_channel* channel, struct aperture_event* event, int timeout_ms);

/* Acknowledges an offer: the lease is held. On an error the descriptors stay open and the caller's; close
 * them. */
int aperture_accept(struct aperture_channel* channel, const struct aperture_offer* offer);

/* Closes the offer's descriptors and refuses the lease. */
int aperture_decline(struct aperture_channel* channel, struct aperture_offer* offer);

/* Shows a ticket. Its answer is an OFFER or REFUSED; TICKET_UNKNOWN is a GOODBYE. One at a time
 * (APERTURE_E_SHOWING). */
int aperture_show(struct aperture_channel* channel, const uint8_t ticket[APERTURE_TICKET_BYTES]);

/* 32 hexadecimal digits. 0, or -EINVAL. */
int aperture_ticket_parse(const char* text, uint8_t ticket[APERTURE_TICKET_BYTES]);

/* Closes the channel. An offer that was not answered is undone; leases that are held go on. Twice is
 * harmless. */
void aperture_close(struct aperture_channel* channel);

/* The first descriptor of a kind, and of an address unless that is NULL; NULL: there is none. */
struct aperture_descriptor* aperture_find(struct aperture_offer* offer, enum aperture_descriptor_kind kind,
                                          const char* address);

/* Closes what is open of an offer, last first: devices before their group, groups before their container. The
 * last close of a device can take as long as a reset. Unmap first: a mapping keeps its device. */
void aperture_offer_close(struct aperture_offer* offer);

/* The lease id as 36 characters and NUL. */
void aperture_lease_id_text(const struct aperture_lease_id* lease, char text[37]);

/* --- device descriptors --- */

/* VFIO_DEVICE_BIND_IOMMUFD: once for each DEVICE_UNBOUND descriptor, before every other request. Opens the
 * device, which can take seconds. device_id (may be NULL): the device's object in the iommufd. -EINVAL: bound
 * already, by this process or another. */
int aperture_bind(int device, int iommufd, uint32_t* device_id);

/* Which device a descriptor is, as the kernel says (/proc/self/fdinfo, Linux 7.2). 1: address is filled; 0:
 * this kernel does not tell. */
int aperture_device_address(int device, char address[APERTURE_ADDRESS_CHARS]);

/* --- regions --- */

#define APERTURE_MAX_AREAS 32u

/* Flags of a region: those of struct vfio_region_info. */
#define APERTURE_REGION_READ 1u
#define APERTURE_REGION_WRITE 2u
#define APERTURE_REGION_MMAP 4u

struct aperture_area {
  uint64_t offset; /* in the region, bytes */
  uint64_t size;   /* bytes */
};

/* What the driver says of a region. size is padded; what can be mapped is the areas, and nothing else. */
struct aperture_region {
  uint32_t index;
  uint32_t flags;       /* APERTURE_REGION_* */
  uint64_t size;        /* bytes; 0: the device has no such region */
  uint64_t offset;      /* where it begins in the descriptor, bytes */
  uint64_t backed_size; /* where the last area ends; size when the driver limits nothing */
  uint32_t type;        /* device-specific regions (index 9 and above), else 0 */
  uint32_t subtype;
  uint32_t msix_mappable; /* 1: the MSI-X table lies in what can be mapped */
  uint32_t whole_file;    /* 1: of a REGION descriptor, whose file ends where its memory does */
  uint32_t area_count;
  struct aperture_area areas[APERTURE_MAX_AREAS]; /* in order, none empty, none touching another's bytes */
};

/* VFIO_DEVICE_GET_REGION_INFO of a DEVICE descriptor, or a DEVICE_UNBOUND one that is bound. */
int aperture_region_info(int device, uint32_t index, struct aperture_region* region);

/* The same from an answer of the kernel that the caller has: info[0, length), argsz and capabilities
 * included. */
int aperture_region_parse(const void* info, size_t length, uint32_t index, struct aperture_region* region);

/* The region of a REGION descriptor: the whole of its file. */
int aperture_region_of(const struct aperture_descriptor* descriptor, struct aperture_region* region);

/* The region with areas that the caller knows, from Region.areas of the gRPC answer. They are checked, sorted
 * and freed of empty ones. */
int aperture_region_set_areas(struct aperture_region* region, const struct aperture_area* areas,
                              size_t count);

/* Reads and writes through the descriptor, with pread and pwrite: no signals, and the driver decides. They go
 * on after short counts, which nvgrace's region 2 gives at the end of its memory. Behind that end reads are
 * 0xFF and writes are dropped. Returns bytes: less than length only at the end of the region. -EINVAL: offset
 * is not in the region. */
int64_t aperture_region_read(int fd, const struct aperture_region* region, uint64_t offset, void* buffer,
                             size_t length);
int64_t aperture_region_write(int fd, const struct aperture_region* region, uint64_t offset,
                              const void* buffer, size_t length);

/* --- mapping --- */

#define APERTURE_MAP_WRITE 1u
/* The tail can be loaded from: it reads 0 (not 0xFF as by pread), and takes no memory: one anonymous mapping
 * with huge zero pages. A store to it is SIGSEGV. For consumers that need plain loads over the whole size,
 * such as a read-only KVM memory slot. */
#define APERTURE_MAP_READABLE_TAIL 2u

/* A region of `size` bytes at `base`: its areas are the device's memory, MAP_SHARED; holes and, unless asked
 * otherwise, the tail are PROT_NONE (SIGSEGV). An access to an area raises SIGBUS while the device is in
 * reset, in low power or has its memory switched off, for up to minutes while it gets ready, and for poisoned
 * memory (BUS_MCEERR_AR). The handler is the caller's: docs/VMM-AUTHORS.md shows one. An access from system
 * calls (read() into it) or from KVM fails with EFAULT instead. Threads other than the one that met poison
 * are told only with prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY). */
struct aperture_mapping {
  uint8_t* base; /* congruent with the region's offset modulo 1 GiB, 2 MiB or a page, as its size has room */
  uint64_t size; /* bytes of the region */
  uint64_t reserved; /* bytes of address space: size rounded up to pages */
  uint32_t flags;    /* APERTURE_MAP_* */
  uint32_t area_count;
  struct aperture_area areas[APERTURE_MAX_AREAS];
};

/* Maps a region. Two VMAs for one area and a tail. The descriptor may be closed afterwards; the mapping keeps
 * the device. */
int aperture_map(struct aperture_mapping* map, int fd, const struct aperture_region* region, uint32_t flags);

/* Ends it. What the device is given back by: no descriptor's close does it while a mapping is left. Twice is
 * harmless. */
int aperture_unmap(struct aperture_mapping* map);

/* Loads and stores, each naturally aligned and as wide (8, 4, 2, 1 bytes) as alignment and rest allow. In the
 * tail reads give 0xFF and writes are dropped, as the driver does. Returns bytes: less than length only at
 * the end of the region. -EINVAL: offset is not in it; APERTURE_E_HOLE: nothing was copied; -EACCES: mapped
 * without APERTURE_MAP_WRITE. They raise SIGBUS as any access does. */
int64_t aperture_mapping_read(const struct aperture_mapping* map, uint64_t offset, void* buffer,
                              size_t length);
int64_t aperture_mapping_write(const struct aperture_mapping* map, uint64_t offset, const void* buffer,
                               size_t length);

#ifdef __cplusplus
}
#endif

#endif
