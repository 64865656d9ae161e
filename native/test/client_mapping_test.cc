// [real kernel] The C client's mapping of a padded aperture, over a memfd: where each page lands, what it is,
// and what a touch of it does.
#include <sys/mman.h>
#include <sys/wait.h>

#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <functional>

#include "client_peer.h"

namespace aperture::client_test {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1 << 30;

struct Vma {
  uint64_t begin;
  uint64_t end;
  std::string mode;
};

// The mappings that lie in [base, base + length).
std::vector<Vma> MapsIn(const uint8_t* base, uint64_t length) {
  std::vector<Vma> found;
  const uint64_t low = reinterpret_cast<uintptr_t>(base);
  FILE* const file = fopen("/proc/self/maps", "re");
  char line[512];
  while (fgets(line, sizeof(line), file) != nullptr) {
    Vma vma;
    char mode[5];
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &vma.begin, &vma.end, mode) != 3) continue;
    if (vma.end <= low || vma.begin >= low + length) continue;
    vma.mode = mode;
    found.push_back(vma);
  }
  fclose(file);
  return found;
}

// A file as a REGION descriptor: `backed` bytes of a region of `size`.
struct Region {
  UniqueFd fd;
  aperture_region region;

  Region(uint64_t size, uint64_t backed, uint64_t offset = 0) {
    fd.reset(memfd_create("client_mapping_test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (ftruncate(fd.get(), static_cast<off_t>(offset + backed)) != 0) abort();
    aperture_descriptor descriptor = {};
    descriptor.fd = fd.get();
    descriptor.kind = APERTURE_REGION;
    descriptor.number = 4;
    descriptor.offset = offset;
    descriptor.size = size;
    CHECK(aperture_region_of(&descriptor, &region) == 0);
  }
};

// How a child that does this ends: 0, or the signal that killed it.
int SignalOf(const std::function<void()>& touch) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    touch();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

uint8_t Load(const uint8_t* at) {
  return *const_cast<const volatile uint8_t*>(at);
}

TEST(client_maps_a_padded_aperture_with_two_mappings) {
  Region file(4 * kGiB, 3 * kGiB);
  CHECK(file.region.backed_size == 3 * kGiB && file.region.whole_file == 1 && file.region.flags == 7);
  aperture_mapping map;
  CHECK(aperture_map(&map, file.fd.get(), &file.region, APERTURE_MAP_WRITE) == 0);
  CHECK(reinterpret_cast<uintptr_t>(map.base) % kGiB == 0 && map.reserved == 4 * kGiB);
  const std::vector<Vma> vmas = MapsIn(map.base, map.reserved);
  CHECK(vmas.size() == 2 && vmas[0].mode == "rw-s" && vmas[1].mode == "---p");
  CHECK(vmas[1].begin - vmas[0].begin == 3 * kGiB && vmas[1].end - vmas[0].begin == 4 * kGiB);

  uint8_t bytes[16] = {1, 2, 3, 4, 5, 6, 7, 8};
  CHECK(aperture_mapping_write(&map, 3 * kGiB - 8, bytes, 16) == 16);
  uint8_t file_bytes[8];
  CHECK(pread(file.fd.get(), file_bytes, 8, 3 * kGiB - 8) == 8 && memcmp(file_bytes, bytes, 8) == 0);
  memset(bytes, 0, sizeof(bytes));
  CHECK(aperture_mapping_read(&map, 3 * kGiB - 8, bytes, 16) == 16);
  for (size_t i = 0; i < 16; i++) CHECK(bytes[i] == (i < 8 ? i + 1 : 0xff));
  CHECK(aperture_mapping_read(&map, 4 * kGiB - 4, bytes, 16) == 4 &&
        aperture_mapping_read(&map, 4 * kGiB, bytes, 1) == -EINVAL);
  CHECK(aperture_mapping_read(&map, UINT64_MAX, bytes, 16) == -EINVAL &&
        aperture_mapping_write(&map, 4 * kGiB, bytes, 1) == -EINVAL);
  CHECK(aperture_mapping_read(&map, 0, bytes, 0) == 0);

  CHECK(SignalOf([&] { Load(map.base); }) == 0);
  CHECK(SignalOf([&] { Load(map.base + 3 * kGiB); }) == SIGSEGV);
  const uint8_t* const base = map.base;
  CHECK(aperture_unmap(&map) == 0 && aperture_unmap(&map) == 0);
  CHECK(MapsIn(base, 4 * kGiB).empty());
}

// The place right below the last mapping is tried first: it is somebody's, or it is free.
TEST(client_maps_in_nobodys_place) {
  Region file(4 * kMiB, 4 * kMiB, 0);
  for (const uint64_t offset : {uint64_t{0}, 2 * kMiB, 4 * kMiB - kPage}) {
    aperture_mapping maps[3];
    for (int i = 0; i < 2; i++) CHECK(aperture_map(&maps[i], file.fd.get(), &file.region, 0) == 0);
    CHECK(maps[1].base == maps[0].base - 4 * kMiB);
    uint8_t* const wanted = maps[1].base - 4 * kMiB + offset;
    void* const taken =
        mmap(wanted, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(taken == wanted);
    *wanted = 7;
    CHECK(aperture_map(&maps[2], file.fd.get(), &file.region, 0) == 0);
    CHECK(maps[2].base + 4 * kMiB <= wanted || maps[2].base > wanted);
    CHECK(*wanted == 7);
    for (aperture_mapping& map : maps) CHECK(aperture_unmap(&map) == 0);
    munmap(taken, kPage);
  }
}

TEST(client_maps_congruent_with_the_offset) {
  // As its size has room for: 1 GiB, 2 MiB, a page.
  const struct {
    uint64_t size;
    uint64_t offset;
    uint64_t alignment;
  } cases[] = {{kGiB, 3 * kMiB, kGiB},
               {2 * kGiB, kGiB - kPage, kGiB},
               {kGiB - kPage, kPage, 2 * kMiB},
               {2 * kMiB, 5 * kPage, 2 * kMiB},
               {kMiB, 7 * kPage, kPage}};
  for (const auto& each : cases) {
    for (int round = 0; round < 3; round++) {
      Region file(each.size, each.size, each.offset);
      aperture_mapping map;
      CHECK(aperture_map(&map, file.fd.get(), &file.region, 0) == 0);
      CHECK((reinterpret_cast<uintptr_t>(map.base) - each.offset) % each.alignment == 0);
      CHECK(MapsIn(map.base, map.reserved).size() == 1);
      CHECK(aperture_unmap(&map) == 0);
    }
  }
}

TEST(client_readable_tail_is_zero_and_takes_no_memory) {
  Region file(64 * kMiB, 2 * kMiB);
  aperture_mapping map;
  CHECK(aperture_map(&map, file.fd.get(), &file.region, APERTURE_MAP_WRITE | APERTURE_MAP_READABLE_TAIL) ==
        0);
  const std::vector<Vma> vmas = MapsIn(map.base, map.reserved);
  CHECK(vmas.size() == 2 && vmas[0].mode == "rw-s" && vmas[1].mode == "r--p" &&
        vmas[1].begin - vmas[0].begin == 2 * kMiB);
  uint64_t sum = 0;
  for (uint64_t at = 2 * kMiB; at < 64 * kMiB; at += kPage) sum += Load(map.base + at);
  CHECK(sum == 0);
  CHECK(SignalOf([&] { map.base[2 * kMiB] = 1; }) == SIGSEGV);
  uint8_t byte = 0;
  CHECK(aperture_mapping_read(&map, 2 * kMiB, &byte, 1) == 1 && byte == 0xff);
  CHECK(aperture_unmap(&map) == 0);
}

TEST(client_holes_are_neither_memory_nor_tail) {
  Region file(16 * kPage, 16 * kPage);
  const aperture_area areas[] = {{8 * kPage, 4 * kPage}, {0, 4 * kPage}};
  CHECK(aperture_region_set_areas(&file.region, areas, 2) == 0);
  aperture_mapping map;
  CHECK(aperture_map(&map, file.fd.get(), &file.region, APERTURE_MAP_WRITE | APERTURE_MAP_READABLE_TAIL) ==
        0);
  const std::vector<Vma> vmas = MapsIn(map.base, map.reserved);
  CHECK(vmas.size() == 4 && vmas[0].mode == "rw-s" && vmas[1].mode == "---p" && vmas[2].mode == "rw-s" &&
        vmas[3].mode == "r--p");
  uint8_t bytes[2 * kPage];
  memset(bytes, 0x77, sizeof(bytes));
  CHECK(aperture_mapping_write(&map, 3 * kPage, bytes, 2 * kPage) == APERTURE_E_HOLE);
  CHECK(aperture_mapping_read(&map, 7 * kPage, bytes, 2 * kPage) == APERTURE_E_HOLE && bytes[0] == 0x77);
  uint8_t before = 1;
  CHECK(aperture_mapping_read(&map, 3 * kPage, &before, 1) == 1 && before == 0);
  CHECK(aperture_mapping_write(&map, 11 * kPage, bytes, 2 * kPage) == 2 * kPage);
  CHECK(pread(file.fd.get(), &before, 1, 12 * kPage - 1) == 1 && before == 0x77);
  CHECK(pread(file.fd.get(), &before, 1, 12 * kPage) == 1 && before == 0);
  CHECK(aperture_unmap(&map) == 0);
}

TEST(client_maps_a_region_smaller_than_a_page) {
  Region file(256, 256);
  aperture_mapping map;
  CHECK(aperture_map(&map, file.fd.get(), &file.region, APERTURE_MAP_WRITE) == 0 && map.reserved == kPage);
  uint8_t bytes[8] = {};
  CHECK(aperture_mapping_read(&map, 252, bytes, 8) == 4);
  CHECK(aperture_unmap(&map) == 0);
}

TEST(client_copies_at_every_alignment) {
  Region file(kPage, kPage);
  aperture_mapping map;
  CHECK(aperture_map(&map, file.fd.get(), &file.region, APERTURE_MAP_WRITE) == 0);
  for (uint64_t offset = 0; offset < 16; offset++) {
    for (size_t length = 1; length < 40; length++) {
      Bytes in(length);
      for (size_t i = 0; i < length; i++) in[i] = static_cast<uint8_t>(offset * 41 + i + length);
      Bytes out(length);
      CHECK(aperture_mapping_write(&map, offset, in.data(), length) == static_cast<int64_t>(length));
      CHECK(aperture_mapping_read(&map, offset, out.data(), length) == static_cast<int64_t>(length));
      CHECK(in == out && memcmp(map.base + offset, in.data(), length) == 0);
    }
  }
  CHECK(aperture_unmap(&map) == 0);
}

TEST(client_refuses_what_cannot_be_mapped) {
  Region file(16 * kPage, 16 * kPage);
  aperture_mapping map;
  const int before = check::CountDescriptors();
  const auto refuses = [&](const std::function<void(aperture_region*)>& edit, int error) {
    aperture_region region = file.region;
    edit(&region);
    CHECK(aperture_map(&map, file.fd.get(), &region, 0) == error && map.base == nullptr);
  };
  refuses([](aperture_region* region) { region->area_count = 0; }, APERTURE_E_NOT_MAPPABLE);
  refuses([](aperture_region* region) { region->size = 0; }, APERTURE_E_NOT_MAPPABLE);
  refuses([](aperture_region* region) { region->area_count = APERTURE_MAX_AREAS + 1; }, APERTURE_E_REGION);
  refuses([](aperture_region* region) { region->offset = 1; }, APERTURE_E_REGION);
  refuses([](aperture_region* region) { region->size = INT64_MAX; }, APERTURE_E_REGION);
  refuses([](aperture_region* region) { region->areas[0] = {1, kPage}; }, APERTURE_E_REGION);
  refuses([](aperture_region* region) { region->areas[0] = {0, kPage + 1}; }, APERTURE_E_REGION);
  refuses([](aperture_region* region) { region->areas[0] = {0, 17 * kPage}; }, APERTURE_E_REGION);
  refuses(
      [](aperture_region* region) {
        region->areas[0] = {UINT64_MAX - kPage + 1, kPage};
      },
      APERTURE_E_REGION);
  refuses(
      [](aperture_region* region) {
        region->area_count = 2;
        region->areas[0] = {kPage, kPage};
        region->areas[1] = {0, kPage};
      },
      APERTURE_E_REGION);
  CHECK(aperture_map(&map, file.fd.get(), &file.region, 4) == -EINVAL);
  CHECK(aperture_map(&map, -1, &file.region, 0) == -EBADF && map.base == nullptr);

  // A descriptor that is open for reading only.
  const UniqueFd read_only(
      open(("/proc/self/fd/" + std::to_string(file.fd.get())).c_str(), O_RDONLY | O_CLOEXEC));
  CHECK(aperture_map(&map, read_only.get(), &file.region, APERTURE_MAP_WRITE) == -EACCES &&
        map.base == nullptr);
  CHECK(aperture_map(&map, read_only.get(), &file.region, 0) == 0);
  CHECK(aperture_mapping_write(&map, 0, "x", 1) == -EACCES);
  CHECK(aperture_unmap(&map) == 0);
  CHECK(check::CountDescriptors() == before + 1);
}

// The whole file ends where the memory does; a write behind it would make it grow.
TEST(client_reads_and_writes_a_file_without_growing_it) {
  Region file(4 * kPage, 2 * kPage, kPage);
  uint8_t bytes[16];
  memset(bytes, 0x5a, sizeof(bytes));
  CHECK(aperture_region_write(file.fd.get(), &file.region, 2 * kPage - 8, bytes, 16) == 16);
  CHECK(aperture_region_write(file.fd.get(), &file.region, 3 * kPage, bytes, 16) == 16);
  CHECK(lseek(file.fd.get(), 0, SEEK_END) == 3 * kPage);
  memset(bytes, 0, sizeof(bytes));
  CHECK(aperture_region_read(file.fd.get(), &file.region, 2 * kPage - 8, bytes, 16) == 16);
  for (size_t i = 0; i < 16; i++) CHECK(bytes[i] == (i < 8 ? 0x5a : 0xff));
  CHECK(aperture_region_read(file.fd.get(), &file.region, 4 * kPage - 4, bytes, 16) == 4);
  CHECK(aperture_region_read(file.fd.get(), &file.region, 4 * kPage, bytes, 1) == -EINVAL);
  CHECK(aperture_region_write(file.fd.get(), &file.region, UINT64_MAX, bytes, 1) == -EINVAL);
}

// A device that ends a read early is asked on, one that gives nothing is an error and no endless loop.
TEST(client_reads_on_after_a_short_count_and_ends) {
  Region file(2 * kPage, kPage);
  file.region.whole_file = 0;
  Bytes bytes(2 * kPage);
  CHECK(aperture_region_read(file.fd.get(), &file.region, 0, bytes.data(), bytes.size()) == -EIO);
  CHECK(aperture_region_read(file.fd.get(), &file.region, 0, bytes.data(), kPage) ==
        static_cast<int64_t>(kPage));
}

TEST(client_regions_of_descriptors) {
  Region longer(kPage, 3 * kPage);
  CHECK(longer.region.backed_size == kPage && longer.region.area_count == 1);
  Region behind(kPage, 0, kPage);
  CHECK(behind.region.area_count == 0 && behind.region.backed_size == 0);
  aperture_descriptor descriptor = {};
  descriptor.kind = APERTURE_DEVICE;
  aperture_region region;
  CHECK(aperture_region_of(&descriptor, &region) == -EINVAL);
  descriptor.kind = APERTURE_REGION;
  descriptor.fd = -1;
  CHECK(aperture_region_of(&descriptor, &region) == -EBADF);
}

TEST(client_address_of_a_descriptor_that_is_no_device) {
  const UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  char address[APERTURE_ADDRESS_CHARS];
  CHECK(aperture_device_address(file.get(), address) == 0 && address[0] == '\0');
  CHECK(aperture_device_address(-1, address) == -ENOENT);
}

}  // namespace
}  // namespace aperture::client_test
