/* A client in C with native/client and nothing else: it receives leases by ticket, and does what a line on
 * stdin says, one JSON line on stdout for each, so that tests can use and misuse what it was handed.
 *
 *   SOCKET is the only argument. First line out: {"ok":true,"channel":...}.
 *
 *   show TICKET
 *     waits for its answer: {event, lease, backend, kind, flags, descriptors: [...]}, or {event, reason}
 *
 *   accept, decline
 *
 *   wait
 *     the next event: {event, lease, cause, grace_ms, reason}
 *
 *   bind ADDRESS
 *     {device_id}
 *
 *   whose ADDRESS
 *     {address}: which device the kernel says that the descriptor is; empty when it does not tell
 *
 *   region ADDRESS INDEX
 *     {size, backed, offset, flags, areas}
 *
 *   map ADDRESS INDEX FLAGS
 *     1: for writing, 2: readable tail. {base, vmas: ["rw-s 4096", ...]}
 *
 *   peek OFFSET N, poke OFFSET HEX
 *     through the mapping, by the library: {hex}, {count}
 *
 *   load OFFSET
 *     32 bits by a plain, guarded load: {value} or {signal}
 *
 *   read OFFSET N, write OFFSET HEX
 *     the same region by pread and pwrite
 *
 *   config ADDRESS OFFSET HEX
 *     writes to the config space
 *
 *   unmap, close
 *     the mapping, every descriptor of the lease
 *
 *   exit
 *
 * A failure is {"ok":false,"error":...,"text":...}. */
#include "../../../docs/examples/guarded_load.h" /* first: it chooses the libc's features */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aperture_client.h"

static struct aperture_channel channel;
static struct aperture_event event;
static struct aperture_offer offer;
static struct aperture_region region;
static struct aperture_mapping mapping;
static int region_fd = -1;

static void fail(int error) {
  char text[128];
  printf("{\"ok\":false,\"error\":%d,\"text\":\"%s\"}\n", error,
         aperture_error_text(error, text, sizeof(text)));
}

static void report(int result) {
  if (result < 0)
    fail(result);
  else
    printf("{\"ok\":true}\n");
}

static const char* event_name(void) {
  static const char* const names[] = {"NONE",   "ATTACHED", "OFFER",   "TRUNCATED",
                                      "RECALL", "ENDED",    "REFUSED", "GOODBYE"};
  return names[event.type];
}

static void tell_event(void) {
  char lease[37];
  aperture_lease_id_text(&event.lease, lease);
  printf("{\"ok\":true,\"event\":\"%s\",\"lease\":\"%s\",\"cause\":\"%s\",\"grace_ms\":%" PRIu32
         ",\"reason\":\"%s\"",
         event_name(), lease, aperture_cause_name(event.cause), event.grace_ms, event.reason);
  if (event.type == APERTURE_EVENT_OFFER) {
    printf(",\"backend\":%d,\"kind\":%d,\"flags\":%" PRIu32 ",\"descriptors\":[", offer.backend, offer.kind,
           offer.flags);
    for (uint32_t i = 0; i < offer.count; i++) {
      const struct aperture_descriptor* const each = &offer.descriptors[i];
      printf("%s{\"kind\":%d,\"scope\":%d,\"number\":%" PRIu32 ",\"address\":\"%s\",\"size\":\"%" PRIu64
             "\",\"fd\":%d}",
             i == 0 ? "" : ",", each->kind, each->scope, each->number, each->address, each->size, each->fd);
    }
    printf("]");
  }
  printf("}\n");
}

static void next_event(void) {
  const int got = aperture_receive(&channel, &event, 120000);
  if (got <= 0) {
    fail(got == 0 ? -110 : got); /* ETIMEDOUT */
    return;
  }
  if (event.type == APERTURE_EVENT_OFFER) offer = event.offer;
  tell_event();
}

static void show(const char* text) {
  uint8_t ticket[APERTURE_TICKET_BYTES];
  int result = aperture_ticket_parse(text, ticket);
  if (result == 0) result = aperture_show(&channel, ticket);
  if (result < 0)
    fail(result);
  else
    next_event();
}

/* The device descriptor of an address, whatever the back end calls it; NULL on the simulated host. */
static struct aperture_descriptor* device_of(const char* address) {
  struct aperture_descriptor* const ready = aperture_find(&offer, APERTURE_DEVICE, address);
  return ready != NULL ? ready : aperture_find(&offer, APERTURE_DEVICE_UNBOUND, address);
}

static int device_fd(const char* address) {
  struct aperture_descriptor* const device = device_of(address);
  return device == NULL ? -1 : device->fd;
}

static int find_region(const char* address, uint32_t index) {
  struct aperture_descriptor* const device = device_of(address);
  if (device != NULL) {
    region_fd = device->fd;
    return aperture_region_info(device->fd, index, &region);
  }
  for (uint32_t i = 0; i < offer.count; i++) {
    const struct aperture_descriptor* const each = &offer.descriptors[i];
    if (each->number != index || strcmp(each->address, address) != 0) continue;
    region_fd = each->fd;
    return aperture_region_of(each, &region);
  }
  return APERTURE_E_REGION;
}

static void tell_region(const char* address, uint32_t index) {
  const int result = find_region(address, index);
  if (result < 0) {
    fail(result);
    return;
  }
  printf("{\"ok\":true,\"size\":\"%" PRIu64 "\",\"backed\":\"%" PRIu64 "\",\"offset\":\"%" PRIu64
         "\",\"flags\":%" PRIu32 ",\"areas\":[",
         region.size, region.backed_size, region.offset, region.flags);
  for (uint32_t i = 0; i < region.area_count; i++)
    printf("%s[\"%" PRIu64 "\",\"%" PRIu64 "\"]", i == 0 ? "" : ",", region.areas[i].offset,
           region.areas[i].size);
  printf("]}\n");
}

/* What the kernel has in the range of the mapping. */
static void tell_vmas(void) {
  FILE* const file = fopen("/proc/self/maps", "r");
  char line[512];
  int count = 0;
  printf("{\"ok\":true,\"base\":\"%" PRIuPTR "\",\"vmas\":[", (uintptr_t)mapping.base);
  while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
    uint64_t begin = 0;
    uint64_t end = 0;
    char mode[5] = "";
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &begin, &end, mode) != 3) continue;
    if (end <= (uintptr_t)mapping.base || begin >= (uintptr_t)mapping.base + mapping.reserved) continue;
    printf("%s\"%s %" PRIu64 "\"", count++ == 0 ? "" : ",", mode, end - begin);
  }
  if (file != NULL) fclose(file);
  printf("]}\n");
}

static void map(const char* address, uint32_t index, uint32_t flags) {
  int result = find_region(address, index);
  if (result == 0) result = aperture_map(&mapping, region_fd, &region, flags);
  if (result < 0)
    fail(result);
  else
    tell_vmas();
}

static void bytes_from(const char* verb, uint64_t offset, const char* count) {
  uint8_t bytes[64];
  const size_t wanted = strtoul(count, NULL, 10);
  const size_t length = wanted < sizeof(bytes) ? wanted : sizeof(bytes);
  const int64_t got = strcmp(verb, "peek") == 0
                          ? aperture_mapping_read(&mapping, offset, bytes, length)
                          : aperture_region_read(region_fd, &region, offset, bytes, length);
  if (got < 0) {
    fail((int)got);
    return;
  }
  printf("{\"ok\":true,\"hex\":\"");
  for (int64_t i = 0; i < got; i++) printf("%02x", bytes[i]);
  printf("\"}\n");
}

static size_t parse_hex(const char* hex, uint8_t* bytes, size_t most) {
  size_t length = 0;
  unsigned byte;
  for (; length < most && sscanf(hex + 2 * length, "%2x", &byte) == 1; length++)
    bytes[length] = (uint8_t)byte;
  return length;
}

static void configure(const char* address, uint64_t offset, const char* hex) {
  struct aperture_region space;
  uint8_t bytes[8];
  const size_t length = parse_hex(hex, bytes, sizeof(bytes));
  int64_t result = aperture_region_info(device_fd(address), 7, &space); /* VFIO_PCI_CONFIG_REGION_INDEX */
  if (result == 0) result = aperture_region_write(device_fd(address), &space, offset, bytes, length);
  report((int)result);
}

static void bytes_to(const char* verb, uint64_t offset, const char* hex) {
  uint8_t bytes[64];
  const size_t length = parse_hex(hex, bytes, sizeof(bytes));
  const int64_t put = strcmp(verb, "poke") == 0
                          ? aperture_mapping_write(&mapping, offset, bytes, length)
                          : aperture_region_write(region_fd, &region, offset, bytes, length);
  if (put < 0)
    fail((int)put);
  else
    printf("{\"ok\":true,\"count\":%" PRId64 "}\n", put);
}

static void load(uint64_t offset) {
  uint32_t value = 0;
  if (guarded_load((const volatile uint32_t*)(mapping.base + offset), &value))
    printf("{\"ok\":true,\"value\":%" PRIu32 "}\n", value);
  else
    printf("{\"ok\":true,\"signal\":\"SIGBUS\"}\n");
}

static void obey(const char* line) {
  char verb[16] = "";
  char a[128] = "";
  char b[160] = "";
  char c[16] = "";
  sscanf(line, "%15s %127s %159s %15s", verb, a, b, c);
  if (strcmp(verb, "show") == 0) {
    show(a);
  } else if (strcmp(verb, "accept") == 0) {
    report(aperture_accept(&channel, &offer));
  } else if (strcmp(verb, "decline") == 0) {
    report(aperture_decline(&channel, &offer));
  } else if (strcmp(verb, "wait") == 0) {
    next_event();
  } else if (strcmp(verb, "bind") == 0) {
    struct aperture_descriptor* const iommufd = aperture_find(&offer, APERTURE_IOMMUFD, NULL);
    uint32_t id = 0;
    const int result = aperture_bind(device_fd(a), iommufd == NULL ? -1 : iommufd->fd, &id);
    if (result < 0)
      fail(result);
    else
      printf("{\"ok\":true,\"device_id\":%" PRIu32 "}\n", id);
  } else if (strcmp(verb, "whose") == 0) {
    char address[APERTURE_ADDRESS_CHARS];
    const int result = aperture_device_address(device_fd(a), address);
    if (result < 0)
      fail(result);
    else
      printf("{\"ok\":true,\"address\":\"%s\"}\n", address);
  } else if (strcmp(verb, "region") == 0) {
    tell_region(a, (uint32_t)strtoul(b, NULL, 10));
  } else if (strcmp(verb, "map") == 0) {
    map(a, (uint32_t)strtoul(b, NULL, 10), (uint32_t)strtoul(c, NULL, 10));
  } else if (strcmp(verb, "peek") == 0 || strcmp(verb, "read") == 0) {
    bytes_from(verb, strtoull(a, NULL, 0), b);
  } else if (strcmp(verb, "poke") == 0 || strcmp(verb, "write") == 0) {
    bytes_to(verb, strtoull(a, NULL, 0), b);
  } else if (strcmp(verb, "load") == 0) {
    load(strtoull(a, NULL, 0));
  } else if (strcmp(verb, "config") == 0) {
    configure(a, strtoull(b, NULL, 0), c);
  } else if (strcmp(verb, "unmap") == 0) {
    report(aperture_unmap(&mapping));
  } else if (strcmp(verb, "close") == 0) {
    aperture_offer_close(&offer);
    report(0);
  } else {
    fail(-22); /* EINVAL: no such verb */
  }
}

int main(int argc, char** argv) {
  char path[108];
  char reason[APERTURE_REASON_CHARS];
  char line[512];
  if (argc != 2) return 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  guarded_install();
  int result = aperture_channel_path(argv[1], path, sizeof(path));
  if (result == 0) result = aperture_attach(&channel, path, 120000, reason);
  if (result < 0) {
    fail(result);
    return 1;
  }
  printf("{\"ok\":true,\"channel\":%" PRIu64 "}\n", channel.number);
  while (fgets(line, sizeof(line), stdin) != NULL && strncmp(line, "exit", 4) != 0) obey(line);
  return 0; /* with whatever is still open: its end by this process's exit is what some tests are about */
}
