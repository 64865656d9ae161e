// Mapping a padded aperture, ours (native/sys/mapping.cc, what the addon calls) beside the bare mmap of the
// part that is really there.
//   map plain|ours|client COUNT   96 GiB of 128; client: by the client in C (native/client): nanoseconds of
//   one mapping (median), and mappings (VMAs) that it takes touch plain|ours FOLDER       1 GiB on a tmpfs
//   with huge pages, which is filled before: microseconds to map it and read one byte of every 4 KiB, and
//   page faults
// Exit status 77: the kernel has no such tmpfs for us; why is on stderr.

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "client/aperture_client.h"
#include "sys/mapping.h"

namespace {

constexpr uint64_t kGib = 1ull << 30;
constexpr uint64_t kPage = 4096;
constexpr uint64_t kWarmUp = 200'000'000;  // nanoseconds
constexpr int kCannot = 77;

[[noreturn]] void Die(const char* what, int status = 1) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(status);
}

uint64_t Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1000000000u + static_cast<uint64_t>(time.tv_nsec);
}

int Mappings() {
  FILE* const maps = fopen("/proc/self/maps", "r");
  if (maps == nullptr) Die("/proc/self/maps");
  int lines = 0;
  for (int c; (c = fgetc(maps)) != EOF;) lines += c == '\n';
  fclose(maps);
  return lines;
}

long Faults() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

// One mapping, of either kind, until it goes out of scope.
class Mapped {
 public:
  Mapped(bool ours, int fd, uint64_t size, uint64_t backed) : backed_(backed) {
    if (ours) {
      auto made = aperture::Mapping::Map(fd, 0, size, {{0, backed}}, true, "bench");
      if (!made.ok()) Die(made.error().operation.c_str());
      mapping_ = made.value();
      base_ = mapping_->reservation()->base();
      return;
    }
    // What a C program does that knows of alignment: room for any, then the one address that suits huge
    // pages.
    room_ = static_cast<uint8_t*>(
        mmap(nullptr, backed + kGib, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (room_ == MAP_FAILED) Die("mmap");
    const auto address = reinterpret_cast<uintptr_t>(room_);
    base_ = reinterpret_cast<uint8_t*>((address + kGib - 1) & ~(kGib - 1));
    if (mmap(base_, backed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) Die("mmap");
  }
  // The part that is there and nothing else, wherever the kernel puts it.
  Mapped(int fd, uint64_t backed) : backed_(backed) {
    base_ = static_cast<uint8_t*>(mmap(nullptr, backed, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    if (base_ == MAP_FAILED) Die("mmap");
  }
  ~Mapped() {
    if (mapping_ != nullptr) {
      if (!mapping_->Unmap().ok()) Die("unmap");
    } else if (room_ != nullptr) {
      munmap(room_, backed_ + kGib);
    } else {
      munmap(base_, backed_);
    }
  }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;

  volatile uint8_t* base() const { return base_; }

 private:
  const uint64_t backed_;
  std::shared_ptr<aperture::Mapping> mapping_;
  uint8_t* room_ = nullptr;
  uint8_t* base_ = nullptr;
};

// Makes and ends one mapping of 96 GiB of 128; `around` is called right before and, with its base, right
// after.
template <typename Around>
void MapOnce(const std::string& who, int fd, Around around) {
  if (who == "client") {
    aperture_region region = {};
    region.flags = APERTURE_REGION_READ | APERTURE_REGION_WRITE | APERTURE_REGION_MMAP;
    region.size = 128 * kGib;
    region.backed_size = 96 * kGib;
    const aperture_area area = {0, 96 * kGib};
    if (aperture_region_set_areas(&region, &area, 1) != 0) Die("aperture_region_set_areas");
    aperture_mapping map;
    around();
    if (aperture_map(&map, fd, &region, APERTURE_MAP_WRITE) != 0) Die("aperture_map");
    around(map.base);
    aperture_unmap(&map);
    return;
  }
  around();
  if (who == "ours") {
    const Mapped mapped(true, fd, 128 * kGib, 96 * kGib);
    around(mapped.base());
  } else {
    const Mapped mapped(fd, 96 * kGib);
    around(mapped.base());
  }
}

// Takes the time and counts the mappings between its two calls.
class Watch {
 public:
  void operator()() {
    before_ = Mappings();
    begin_ = Now();
  }
  void operator()(volatile uint8_t* base) {
    took_.push_back(Now() - begin_);
    mappings_ = Mappings() - before_;
    base[0] = 1;
    if (base[0] != 1) Die("the mapping does not keep what is written");
  }
  void Print() {
    std::sort(took_.begin(), took_.end());
    printf("{\"count\":%zu,\"nanoseconds\":%llu,\"mappings\":%d}\n", took_.size(),
           static_cast<unsigned long long>(took_[took_.size() / 2]), mappings_);
  }

 private:
  std::vector<uint64_t> took_;
  uint64_t begin_ = 0;
  int before_ = 0, mappings_ = 0;
};

int Map(const std::string& who, int count) {
  const int fd = memfd_create("aperture", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(96 * kGib)) < 0) Die("memfd");
  // A processor that has been idle takes up to twice as long at first.
  const uint64_t warm = Now() + kWarmUp;
  while (Now() < warm) {
    Watch uncounted;
    MapOnce<Watch&>(who, fd, uncounted);
  }
  Watch watch;
  for (int i = 0; i < count; i++) MapOnce<Watch&>(who, fd, watch);
  watch.Print();
  return 0;
}

int FileOnHugeTmpfs(const char* folder, uint64_t length) {
  if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) Die("unshare", kCannot);
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) Die("making mounts private", kCannot);
  if (mount("tmpfs", folder, "tmpfs", 0, "huge=always,size=2g") < 0)
    Die("mounting tmpfs with huge=always", kCannot);
  const std::string path = std::string(folder) + "/aperture";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(length)) < 0) Die("a file on tmpfs", kCannot);
  return fd;
}

unsigned ReadEveryPage(const Mapped& mapped, uint64_t length) {
  unsigned sum = 0;
  for (uint64_t at = 0; at < length; at += kPage) sum += mapped.base()[at];
  return sum;
}

int Touch(bool ours, uint64_t length, const char* folder) {
  const int fd = FileOnHugeTmpfs(folder, length);
  {
    // The memory has to be there: clearing it is no part of mapping it.
    const Mapped filler(false, fd, length, length);
    for (uint64_t at = 0; at < length; at += kPage) filler.base()[at] = 0;
  }
  const long faults = Faults();
  const uint64_t begin = Now();
  const Mapped mapped(ours, fd, length, length);
  const unsigned sum = ReadEveryPage(mapped, length);
  const uint64_t end = Now();
  const long taken = Faults() - faults;
  if (sum != 0) Die("fresh memory is not zero");
  if (!ours && static_cast<uint64_t>(taken) > length / kPage / 4) {
    fprintf(stderr, "%ld faults: this kernel gives a tmpfs no huge pages\n", taken);
    return kCannot;
  }
  printf("{\"microseconds\":%.1f,\"faults\":%ld}\n", static_cast<double>(end - begin) / 1e3, taken);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const bool ours = argc > 2 && strcmp(argv[2], "ours") == 0;
  if (argc == 4 && strcmp(argv[1], "map") == 0) return Map(argv[2], atoi(argv[3]));
  if (argc == 5 && strcmp(argv[1], "touch") == 0)
    return Touch(ours, static_cast<uint64_t>(atoi(argv[3])) << 20, argv[4]);
  fprintf(stderr, "usage: mapping map plain|ours|client COUNT, or touch plain|ours MIB FOLDER\n");
  return 2;
}
