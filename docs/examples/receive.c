/* Takes a lease by its ticket and reads the first word of a region.   usage: receive SOCKET TICKET REGION
 * cc -std=c11 -I native/client -o receive receive.c native/client/aperture_client.c */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "aperture_client.h"

static int check(const char* what, int result) {
  char text[128];
  if (result >= 0) return result;
  fprintf(stderr, "%s: %s\n", what, aperture_error_text(result, text, sizeof(text)));
  exit(1);
}

static void take(struct aperture_channel* channel, const char* ticket, struct aperture_offer* offer) {
  struct aperture_event event;
  uint8_t bytes[APERTURE_TICKET_BYTES];
  check("ticket", aperture_ticket_parse(ticket, bytes));
  check("show", aperture_show(channel, bytes));
  check("receive", aperture_receive(channel, &event, 30000)); /* opening a device can take as long */
  if (event.type != APERTURE_EVENT_OFFER) {
    fprintf(stderr, "no offer: %s\n",
            event.type == APERTURE_EVENT_TRUNCATED ? "raise RLIMIT_NOFILE" : event.reason);
    exit(1);
  }
  check("accept",
        aperture_accept(channel, &event.offer)); /* at once: the daemon waits ack_ms, 2 s by default */
  *offer = event.offer;
}

/* The descriptor of the region, and what is known of it. */
static int open_region(struct aperture_offer* offer, uint32_t index, struct aperture_region* region) {
  struct aperture_descriptor* const iommufd = aperture_find(offer, APERTURE_IOMMUFD, NULL);
  struct aperture_descriptor* device =
      aperture_find(offer, APERTURE_DEVICE, NULL); /* legacy kernels: ready */
  if (iommufd != NULL) {
    device = aperture_find(offer, APERTURE_DEVICE_UNBOUND, NULL);
    /* Each device once, before anything else is asked of it. A successor's devices are bound already. */
    if (!(offer->flags & APERTURE_OFFER_SUCCESSION))
      check("bind", aperture_bind(device->fd, iommufd->fd, NULL));
  }
  if (device != NULL) {
    check("region", aperture_region_info(device->fd, index, region));
    return device->fd;
  }
  for (uint32_t i = 0; i < offer->count; i++) { /* a region descriptor for each region, and no device */
    if (offer->descriptors[i].number != index) continue;
    check("region", aperture_region_of(&offer->descriptors[i], region));
    return offer->descriptors[i].fd;
  }
  return check("region", APERTURE_E_REGION);
}

int main(int argc, char** argv) {
  char path[108];
  char reason[APERTURE_REASON_CHARS];
  char lease[37];
  struct aperture_channel channel;
  struct aperture_offer offer;
  struct aperture_region region;
  struct aperture_mapping mapping;
  uint32_t word;
  if (argc != 4) return 2;
  check("path", aperture_channel_path(argv[1], path, sizeof(path)));
  check("attach", aperture_attach(&channel, path, 10000, reason));
  take(&channel, argv[2], &offer);

  const int fd = open_region(&offer, (uint32_t)atoi(argv[3]), &region);
  check("map", aperture_map(&mapping, fd, &region, APERTURE_MAP_WRITE));
  check("read", (int)aperture_mapping_read(&mapping, 0, &word, sizeof(word)));
  aperture_lease_id_text(&offer.lease, lease);
  printf("%s %" PRIu32 " %" PRIu64 " %" PRIu64 " 0x%08" PRIx32 "\n", lease, region.index, region.size,
         region.backed_size, word);

  aperture_unmap(&mapping);     /* first: a mapping keeps the device, whatever is closed */
  aperture_offer_close(&offer); /* devices before iommufd or container */
  aperture_close(&channel);
  return 0; /* the exit ends the lease; a process with gRPC calls ReleaseLease */
}
