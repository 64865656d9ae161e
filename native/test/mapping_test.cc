// [real kernel] The padded aperture over a memfd: what lies where, and what a fault becomes.
#include "sys/mapping.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "check.h"
#include "sys/fault_guard.h"
#include "sys/unique_fd.h"

namespace aperture {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1 << 30;

UniqueFd Memory(uint64_t size) {
  UniqueFd fd(memfd_create("check", MFD_CLOEXEC));
  if (ftruncate(fd.get(), static_cast<off_t>(size)) != 0) abort();
  return fd;
}

std::shared_ptr<Mapping> MapOk(int fd, uint64_t fd_offset, uint64_t size,
                               const std::vector<RegionArea>& areas, bool write = true) {
  Result<std::shared_ptr<Mapping>> mapped = Mapping::Map(fd, fd_offset, size, areas, write, "dev region 4");
  if (!mapped.ok()) {
    fprintf(stderr, "  %s %s\n", mapped.error().code.c_str(), mapped.error().subject.c_str());
    abort();
  }
  return mapped.value();
}

// Lines of /proc/self/maps that lie in [base, base + length).
int CountVmas(const uint8_t* base, uint64_t length) {
  FILE* maps = fopen("/proc/self/maps", "re");
  char line[512];
  int count = 0;
  const uintptr_t low = reinterpret_cast<uintptr_t>(base);
  while (fgets(line, sizeof(line), maps) != nullptr) {
    unsigned long from = 0;
    unsigned long to = 0;
    if (sscanf(line, "%lx-%lx", &from, &to) == 2 && from < low + length && to > low) count++;
  }
  fclose(maps);
  return count;
}

bool FailedAs(const Result<std::vector<uint8_t>>& result, int number, const char* subject) {
  return !result.ok() && result.error().number == number && result.error().subject == subject;
}

TEST(mapping_head_and_tail) {
  const UniqueFd fd = Memory(8 * kPage);
  const std::shared_ptr<Mapping> mapping = MapOk(fd.get(), 0, 16 * kPage, {{0, 8 * kPage}});
  CHECK(CountVmas(mapping->reservation()->base(), 16 * kPage) == 2);
  CHECK(mapping->Write(8 * kPage - 4, {1, 2, 3, 4, 5, 6, 7, 8}).ok());
  uint8_t last[4];
  CHECK(pread(fd.get(), last, 4, 8 * kPage - 4) == 4 && memcmp(last, "\1\2\3\4", 4) == 0);
  const Result<std::vector<uint8_t>> read = mapping->Read(8 * kPage - 4, 8);
  CHECK(read.ok() && read.value() == std::vector<uint8_t>({1, 2, 3, 4, 255, 255, 255, 255}));
  CHECK(mapping->Write(16 * kPage - 1, {9}).ok());
  CHECK(mapping->Read(16 * kPage - 1, 1).value()[0] == 0xff);
  CHECK(mapping->Read(16 * kPage, 0).ok());
  // Nothing was allocated behind the memory.
  struct stat status;
  CHECK(fstat(fd.get(), &status) == 0 && status.st_size == 8 * static_cast<off_t>(kPage));
}

TEST(mapping_without_memory_is_all_tail) {
  const UniqueFd fd = Memory(kPage);
  const std::shared_ptr<Mapping> mapping = MapOk(fd.get(), 0, 4 * kPage, {{0, 0}});
  CHECK(CountVmas(mapping->reservation()->base(), 4 * kPage) == 1);
  CHECK(mapping->Read(0, 4).value() == std::vector<uint8_t>(4, 0xff));
  CHECK(mapping->Write(0, {1}).ok());
}

TEST(mapping_hole_between_areas) {
  const UniqueFd fd = Memory(4 * kPage);
  // Areas out of order, with an empty one: what a driver with an MSI-X table may send.
  const std::shared_ptr<Mapping> mapping =
      MapOk(fd.get(), 0, 8 * kPage, {{3 * kPage, kPage}, {kPage, 0}, {0, 2 * kPage}});
  const std::vector<uint8_t> byte = {7};
  CHECK(mapping->Write(3 * kPage, byte).ok() && mapping->Read(3 * kPage, 1).value() == byte);
  CHECK(FailedAs(mapping->Read(2 * kPage, 4), EFAULT, "dev region 4 at 0x2000: not mappable"));
  const Result<None> crossing = mapping->Write(2 * kPage - 1, {1, 2});
  CHECK(!crossing.ok() && crossing.error().number == EFAULT);
  CHECK(mapping->Read(2 * kPage - 1, 1).value()[0] == 0);  // nothing was written before the hole
  CHECK(mapping->InOneArea(0, 2 * kPage) && !mapping->InOneArea(0, 2 * kPage + 1));
  CHECK(!mapping->InOneArea(2 * kPage, 1) && !mapping->InOneArea(4 * kPage, 1) &&
        !mapping->InOneArea(8 * kPage, 1));
  CHECK(!mapping->InOneArea(0, 0) && !mapping->InOneArea(UINT64_MAX, 1));
}

TEST(mapping_small_bar) {
  const UniqueFd fd = Memory(kPage);
  const std::shared_ptr<Mapping> mapping = MapOk(fd.get(), 0, 256, {{0, 256}});
  CHECK(mapping->Write(252, {1, 2, 3, 4}).ok());
  CHECK(mapping->Read(252, 4).value() == std::vector<uint8_t>({1, 2, 3, 4}));
  CHECK(mapping->InOneArea(0, 256) && !mapping->InOneArea(0, 257));
}

TEST(mapping_offset_in_the_descriptor) {
  const UniqueFd fd = Memory(4 * kPage);
  const std::shared_ptr<Mapping> mapping = MapOk(fd.get(), 2 * kPage, 2 * kPage, {{kPage, kPage}});
  CHECK(mapping->Write(kPage, {42}).ok());
  uint8_t byte = 0;
  CHECK(pread(fd.get(), &byte, 1, 3 * kPage) == 1 && byte == 42);
}

TEST(mapping_is_congruent) {
  const UniqueFd fd = Memory(6 * kGiB);
  struct Case {
    uint64_t fd_offset, size, modulus;
  };
  for (const Case& c :
       {Case{0, 4 * kGiB, kGiB}, Case{kGiB, kGiB, kGiB}, Case{kGiB + 3 * kPage, 2 * kGiB, kGiB},
        Case{kGiB - kPage, kGiB, kGiB}, Case{5 * kMiB, 64 * kMiB, 2 * kMiB},
        Case{3 * kPage, 2 * kMiB, 2 * kMiB}, Case{kPage, 4 * kPage, kPage}}) {
    for (int again = 0; again < 4; again++) {
      const std::shared_ptr<Mapping> mapping = MapOk(fd.get(), c.fd_offset, c.size, {{0, c.size / 2}});
      const uint8_t* base = mapping->reservation()->base();
      CHECK((reinterpret_cast<uintptr_t>(base) - c.fd_offset) % c.modulus == 0);
      CHECK(CountVmas(base, c.size) == 2);
    }
  }
}

// The place right below the last mapping is tried first: it is somebody's, or it is free.
TEST(mapping_takes_nobodys_place) {
  const UniqueFd fd = Memory(2 * kMiB);
  const auto map = [&fd] { return MapOk(fd.get(), 0, 4 * kMiB, {{0, 2 * kMiB}}); };
  for (const uint64_t offset : {uint64_t{0}, 2 * kMiB, 4 * kMiB - kPage}) {
    const std::shared_ptr<Mapping> first = map();
    const std::shared_ptr<Mapping> second = map();
    CHECK(second->reservation()->base() == first->reservation()->base() - 4 * kMiB);
    uint8_t* const wanted = second->reservation()->base() - 4 * kMiB + offset;
    void* const taken =
        mmap(wanted, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(taken == wanted);
    *wanted = 7;
    const std::shared_ptr<Mapping> third = map();
    const uint8_t* const base = third->reservation()->base();
    CHECK(base + 4 * kMiB <= wanted || base > wanted);
    CHECK(*wanted == 7);
    CHECK(CountVmas(base, 4 * kMiB) == 2);
    munmap(taken, kPage);
  }
}

TEST(mapping_gives_back_every_page) {
  const UniqueFd fd = Memory(kGiB);
  long before = 0;
  for (int round = 0; round < 100; round++) {
    // Another offset each time, so that each reservation has something to trim at both ends.
    { MapOk(fd.get(), static_cast<uint64_t>(round) * 7 * kPage, 2 * kGiB, {{0, kGiB}}); }
    FILE* statm = fopen("/proc/self/statm", "re");
    long pages = 0;
    CHECK(fscanf(statm, "%ld", &pages) == 1);
    fclose(statm);
    if (round == 10) before = pages;
    // 2 GiB are 524,288 pages: one reservation that stays would show.
    if (round > 10) CHECK(pages < before + 100000);
  }
}

TEST(mapping_refuses_bad_geometry) {
  const UniqueFd fd = Memory(4 * kPage);
  struct Case {
    uint64_t fd_offset, size;
    std::vector<RegionArea> areas;
    const char* reason;
  };
  const Case cases[] = {
      {0, 0, {}, "the region is empty"},
      {1, kPage, {}, "the region's offset is not a multiple of the page size"},
      {0, UINT64_MAX, {}, "the region ends beyond the largest offset"},
      {0, INT64_MAX, {}, "the region ends beyond the largest offset"},
      {INT64_MAX - kPage + 1, kPage, {}, "the region ends beyond the largest offset"},
      {0, 4 * kPage, {{0, 5 * kPage}}, "an area ends beyond the region"},
      {0, 4 * kPage, {{5 * kPage, 0}}, "an area ends beyond the region"},
      {0, 4 * kPage, {{2 * kPage, UINT64_MAX - kPage + 1}}, "an area ends beyond the region"},
      {0, 4 * kPage, {{8, kPage}}, "an area does not start at a page"},
      {0, 4 * kPage, {{0, 8}}, "an area does not end at a page"},
      {0, 4 * kPage, {{0, 2 * kPage}, {kPage, kPage}}, "two areas overlap"},
      {0, 4 * kPage, {{2 * kPage, kPage}, {0, 3 * kPage}}, "two areas overlap"},
      {0, 4 * kPage, {{0, kPage}, {0, kPage}}, "two areas overlap"},
  };
  for (const Case& c : cases) {
    const Result<std::shared_ptr<Mapping>> mapped =
        Mapping::Map(fd.get(), c.fd_offset, c.size, c.areas, true, "x");
    if (!CHECK(!mapped.ok())) continue;
    CHECK(mapped.error().code == "BAD_ANSWER" && mapped.error().number == 0);
    if (!CHECK(mapped.error().subject == std::string("x: ") + c.reason))
      fprintf(stderr, "  %s\n", mapped.error().subject.c_str());
  }
}

TEST(mapping_failed_mmap_leaves_nothing) {
  const UniqueFd file(open("/dev/null", O_RDWR | O_CLOEXEC));
  const Result<std::shared_ptr<Mapping>> mapped =
      Mapping::Map(file.get(), 0, kGiB, {{0, kPage}}, true, "null");
  CHECK(!mapped.ok() && mapped.error().operation == "mmap" && mapped.error().code == "ENODEV");
  CHECK(Mapping::Map(-1, 0, kPage, {{0, kPage}}, true, "x").error().number == EBADF);
}

TEST(mapping_read_only) {
  const UniqueFd fd = Memory(kPage);
  const std::shared_ptr<Mapping> mapping = MapOk(fd.get(), 0, kPage, {{0, kPage}}, false);
  CHECK(mapping->Read(0, 4).ok());
  CHECK(mapping->Write(0, {1}).error().number == EACCES);
}

TEST(mapping_bus_error_is_a_value) {
  const UniqueFd fd = Memory(8 * kPage);
  const std::shared_ptr<Mapping> mapping = MapOk(fd.get(), 0, 16 * kPage, {{0, 8 * kPage}});
  CHECK(ftruncate(fd.get(), 4 * kPage) == 0);
  for (int round = 0; round < 3; round++) {
    CHECK(FailedAs(mapping->Read(0, 8 * kPage), EFAULT, "dev region 4 at 0x4000"));
    CHECK(mapping->Write(5 * kPage + 3, {1, 2, 3}).error().subject == "dev region 4 at 0x5003");
    CHECK(mapping->Read(0, 4 * kPage).ok());
  }
  // The signal mask is what it was: one that a jump left blocked would kill the process at the next fault.
  sigset_t mask;
  CHECK(sigprocmask(SIG_SETMASK, nullptr, &mask) == 0 && sigismember(&mask, SIGBUS) == 0);
}

TEST(mapping_segmentation_fault_is_a_value) {
  const UniqueFd fd = Memory(2 * kPage);
  const std::shared_ptr<Mapping> mapping = MapOk(fd.get(), 0, 2 * kPage, {{0, 2 * kPage}});
  CHECK(mprotect(mapping->reservation()->base() + kPage, kPage, PROT_NONE) == 0);
  CHECK(FailedAs(mapping->Read(kPage - 8, 16), EFAULT, "dev region 4 at 0x1000"));
}

TEST(mapping_after_unmap) {
  const UniqueFd fd = Memory(2 * kPage);
  const std::shared_ptr<Mapping> mapping = MapOk(fd.get(), 0, 4 * kPage, {{0, 2 * kPage}});
  const std::shared_ptr<Reservation> view = mapping->reservation();
  CHECK(mapping->Unmap().ok());
  CHECK(CountVmas(view->base(), 4 * kPage) == 1);  // the addresses stay taken, and nothing is behind them
  CHECK(mapping->Read(0, 1).error().number == EFAULT);
}

// How a child ends that does `body` with our handlers in place.
int StatusOfChild(void (*body)()) {
  fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

uint8_t* Inaccessible() {
  return static_cast<uint8_t*>(mmap(nullptr, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

bool DiedOf(int status, int signal) {
  return WIFSIGNALED(status) && WTERMSIG(status) == signal;
}

// What is not a fault of the copied range ends the process as if we were not there.
TEST(faults_outside_a_copy_go_on) {
  CHECK(InstallFaultHandlers() == 0);
  CHECK(DiedOf(StatusOfChild([] { *static_cast<volatile uint8_t*>(Inaccessible()) = 1; }), SIGSEGV));
  // In a copy, but at its other end.
  CHECK(DiedOf(StatusOfChild([] {
                 static uint64_t word = 1;
                 CopyFromMapping(reinterpret_cast<uint8_t*>(&word), Inaccessible(), sizeof(word));
               }),
               SIGSEGV));
  CHECK(DiedOf(StatusOfChild([] { raise(SIGSEGV); }), SIGSEGV));
  CHECK(DiedOf(StatusOfChild([] { kill(getpid(), SIGBUS); }), SIGBUS));
}

TEST(access_widths) {
  struct Case {
    uintptr_t address;
    size_t rest, width;
  };
  for (const Case& c : {Case{0x1000, 4, 4}, Case{0x1000, 8, 8}, Case{0x1000, 100, 8}, Case{0x1004, 8, 4},
                        Case{0x1002, 8, 2}, Case{0x1001, 8, 1}, Case{0x1000, 7, 4}, Case{0x1004, 3, 2},
                        Case{0x1006, 1, 1}, Case{0x1000, 2, 2}, Case{0x1000, 1, 1}})
    CHECK(AccessWidth(c.address, c.rest) == c.width);
}

// Every offset, every length, both directions: the odd ends are where widths change.
TEST(copies_of_every_alignment) {
  const UniqueFd fd = Memory(kPage);
  const std::shared_ptr<Mapping> mapping = MapOk(fd.get(), 0, kPage, {{0, kPage}});
  uint8_t expected[64];
  for (size_t offset = 0; offset < 17; offset++) {
    for (size_t length = 0; length < 40; length++) {
      std::vector<uint8_t> data(length);
      for (size_t i = 0; i < length; i++) data[i] = static_cast<uint8_t>(offset * 40 + length + i + 1);
      const std::vector<uint8_t> clean(64, 0xee);
      CHECK(pwrite(fd.get(), clean.data(), 64, 0) == 64);
      memset(expected, 0xee, sizeof(expected));
      if (length > 0) memcpy(expected + offset, data.data(), length);
      CHECK(mapping->Write(offset, data).ok());
      uint8_t actual[64];
      CHECK(pread(fd.get(), actual, 64, 0) == 64 && memcmp(actual, expected, 64) == 0);
      CHECK(mapping->Read(offset, length).value() == data);
    }
  }
}

}  // namespace
}  // namespace aperture
