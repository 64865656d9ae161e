// What acquiring a device costs without a broker: open the cdev, BIND to a fresh iommufd, device info, the
// first region's info, close, and open it again: the system calls that the daemon makes, in one process, as
// root. Runs in a guest of the lab. Usage: vfio_direct CDEV COUNT

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

// linux/vfio.h and linux/iommufd.h, declared here because the headers of older distributions lack them.
struct bind_iommufd {
  uint32_t argsz, flags;
  int32_t iommufd;
  uint32_t out_devid;
};
struct device_info {
  uint32_t argsz, flags, num_regions, num_irqs, cap_offset, pad;
};
struct region_info {
  uint32_t argsz, flags, index, cap_offset;
  uint64_t size, offset;
};
_Static_assert(sizeof(struct bind_iommufd) == 16 && sizeof(struct device_info) == 24 &&
                   sizeof(struct region_info) == 32,
               "the kernel's");

enum { BIND = 118, DEVICE_INFO = 107, REGION_INFO = 108 };
#define VFIO(number) _IO(0x3b, number)

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
  const uint64_t x = *(const uint64_t*)a, y = *(const uint64_t*)b;
  return x < y ? -1 : x > y;
}

static int opened(const char* path) {
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) die(path);
  return fd;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int count = atoi(argv[2]);
  uint64_t* took = calloc((size_t)count, sizeof *took);
  if (count < 1 || took == NULL) return 2;
  for (int i = 0; i < count; i++) {
    const uint64_t begin = now();
    const int iommufd = opened("/dev/iommu");
    const int device = opened(argv[1]);
    struct bind_iommufd bind = {sizeof bind, 0, iommufd, 0};
    if (ioctl(device, VFIO(BIND), &bind) < 0) die("VFIO_DEVICE_BIND_IOMMUFD");
    struct device_info info = {.argsz = sizeof info};
    if (ioctl(device, VFIO(DEVICE_INFO), &info) < 0) die("VFIO_DEVICE_GET_INFO");
    for (uint32_t index = 0; index < info.num_regions; index++) {
      struct region_info region = {.argsz = sizeof region, .index = index};
      // Regions that the device does not have are EINVAL.
      ioctl(device, VFIO(REGION_INFO), &region);
    }
    close(device);
    close(iommufd);
    const int again = opened(argv[1]);
    took[i] = now() - begin;
    close(again);
  }
  qsort(took, (size_t)count, sizeof *took, compare);
  printf("{\"count\":%d,\"p50\":%.1f}\n", count, took[count / 2] / 1e3);
}
