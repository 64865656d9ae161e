// [pure] The C client's reading of regions: against chains no kernel should send, and, over bytes nobody
// chose, against the daemon's own reader, which was written from the same header and shares no code with it.
#include <cerrno>
#include <cstdarg>
#include <functional>
#include <random>

#include "client_peer.h"
#include "sys/abi_vfio.h"
#include "sys/mapping_plan.h"
#include "sys/region_caps.h"

namespace {

// What the client's ioctl() does while a test says so (the Makefile gives it this name).
std::function<int(int, unsigned long, void*)> kernel;

}  // namespace

extern "C" int aperture_test_ioctl(int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  const int failed = kernel ? kernel(fd, request, argument) : ENOTTY;
  errno = failed;
  return failed == 0 ? 0 : -1;
}

namespace aperture::client_test {
namespace {

constexpr size_t kStart = sizeof(vfio::RegionInfo);
constexpr uint64_t kSize = 0x40000000;

// An answer of the kernel, to which capabilities are appended.
struct Answer {
  Bytes bytes = Bytes(kStart);
  size_t last = 12;  // where the link to the next capability stands

  explicit Answer(uint64_t size = kSize, uint32_t flags = 0xf, uint32_t index = 4) {
    Put(&bytes, 4, flags, 4);
    Put(&bytes, 8, index, 4);
    Put(&bytes, 16, size, 8);
    Put(&bytes, 24, uint64_t{4} << 40, 8);
  }
  size_t Add(uint16_t id, uint16_t version, const Bytes& body) {
    const size_t at = bytes.size();
    Put(&bytes, last, at, 4);
    bytes.resize(at + 8);
    Put(&bytes, at, id, 2);
    Put(&bytes, at + 2, version, 2);
    bytes.insert(bytes.end(), body.begin(), body.end());
    Put(&bytes, 0, bytes.size(), 4);
    last = at + 4;
    return at;
  }
  size_t AddSparse(const std::vector<RegionArea>& areas, uint32_t claimed, uint16_t version = 1) {
    Bytes body(8 + 16 * areas.size());
    Put(&body, 0, claimed, 4);
    for (size_t i = 0; i < areas.size(); i++) {
      Put(&body, 8 + 16 * i, areas[i].offset, 8);
      Put(&body, 16 + 16 * i, areas[i].size, 8);
    }
    return Add(1, version, body);
  }
  size_t AddSparse(const std::vector<RegionArea>& areas) {
    return AddSparse(areas, static_cast<uint32_t>(areas.size()));
  }
  int Parse(aperture_region* region, uint32_t index = 4) const {
    // An exactly sized heap copy: the sanitizer sees one byte too far.
    const Bytes exact(bytes);
    return aperture_region_parse(exact.data(), exact.size(), index, region);
  }
  int Parse() const {
    aperture_region region;
    return Parse(&region);
  }
};

TEST(client_region_of_nvgrace) {
  Answer answer;
  answer.AddSparse({{0, 0x20000000}});
  aperture_region region;
  CHECK(answer.Parse(&region) == 0);
  CHECK(region.index == 4 && region.flags == 7 && region.size == kSize && region.offset == uint64_t{4} << 40);
  CHECK(region.backed_size == 0x20000000 && region.area_count == 1 && region.areas[0].size == 0x20000000);
}

TEST(client_region_without_capabilities) {
  aperture_region region;
  CHECK(Answer(kSize, 7).Parse(&region) == 0);
  CHECK(region.area_count == 1 && region.areas[0].size == kSize && region.backed_size == kSize);
  CHECK(Answer(kSize, 3).Parse(&region) == 0);
  CHECK(region.area_count == 0 && region.backed_size == kSize);
  CHECK(Answer(0, 0).Parse(&region) == 0 && region.size == 0 && region.area_count == 0);
}

TEST(client_region_capabilities_of_all_kinds) {
  Answer answer;
  answer.Add(2, 1, {0x86, 0x80, 0, 0x80, 1, 0, 0, 0});
  answer.Add(77, 9, {1, 2, 3});  // unaligned from here on, as before Linux 6.6
  answer.AddSparse({{0x3000, 0x1000}, {0x1000, 0}, {0, 0x1000}});
  answer.Add(3, 1, {});
  aperture_region region;
  CHECK(answer.Parse(&region) == 0);
  CHECK(region.type == 0x80008086 && region.subtype == 1 && region.msix_mappable == 1);
  CHECK(region.area_count == 2 && region.areas[0].offset == 0 && region.areas[1].offset == 0x3000);
  CHECK(region.backed_size == 0x4000);
}

TEST(client_region_of_which_nothing_can_be_mapped) {
  Answer answer;
  answer.AddSparse({{0, 0}});
  aperture_region region;
  CHECK(answer.Parse(&region) == 0 && region.area_count == 0 && region.backed_size == 0);
}

TEST(client_region_numbers_that_cannot_be) {
  aperture_region region;
  CHECK(Answer().Parse(&region, 5) == APERTURE_E_REGION);
  CHECK(Answer(UINT64_C(1) << 63, 7).Parse() == APERTURE_E_REGION);
  CHECK(Answer(INT64_MAX, 7).Parse() == APERTURE_E_REGION);
  for (size_t length = 0; length < kStart; length++) {
    Answer answer(kSize, 7);
    answer.bytes.resize(length);
    CHECK(answer.Parse() == APERTURE_E_REGION);
  }
  for (const RegionArea& area : {RegionArea{kSize, 1}, RegionArea{0, kSize + 1},
                                 RegionArea{0x1000, UINT64_MAX}, RegionArea{UINT64_MAX, 0}}) {
    Answer answer;
    answer.AddSparse({area});
    CHECK(answer.Parse() == APERTURE_E_REGION);
  }
  Answer overlap;
  overlap.AddSparse({{0x1000, 0x1000}, {0, 0x1001}});
  CHECK(overlap.Parse() == APERTURE_E_REGION);
}

TEST(client_region_chains_that_loop_or_leave) {
  Answer none;
  CHECK(none.Parse() == APERTURE_E_CAPABILITIES);
  Answer itself;
  const size_t at = itself.Add(2, 1, Bytes(8));
  Put(&itself.bytes, itself.last, at, 4);
  CHECK(itself.Parse() == APERTURE_E_CAPABILITIES);
  Answer two;
  const size_t first = two.Add(77, 1, {});
  two.Add(78, 1, {});
  Put(&two.bytes, two.last, first, 4);
  CHECK(two.Parse() == APERTURE_E_CAPABILITIES);
  for (uint32_t to = 1; to < kStart; to++) {
    Answer answer;
    answer.Add(77, 1, {});
    Put(&answer.bytes, 12, to, 4);
    CHECK(answer.Parse() == APERTURE_E_CAPABILITIES);
  }
  Answer inside;
  inside.AddSparse({{0, 0x1000}, {0x2000, 0x1000}});
  Put(&inside.bytes, inside.last, kStart + 16, 4);
  CHECK(inside.Parse() == APERTURE_E_CAPABILITIES);
  for (const uint32_t to : {48u, 49u, 4096u, 0x7fffffffu, 0xffffffffu, 0xfffffff8u}) {
    Answer answer;
    answer.Add(2, 1, Bytes(8));
    Put(&answer.bytes, answer.last, to, 4);
    CHECK(answer.Parse() == APERTURE_E_CAPABILITIES);
  }
}

TEST(client_region_capabilities_cut_twice_or_unknown) {
  for (size_t keep = 0; keep < 16; keep++) {
    Answer typed;
    typed.Add(2, 1, Bytes(8));
    typed.bytes.resize(kStart + keep);
    CHECK(typed.Parse() == APERTURE_E_CAPABILITIES);
    Answer sparse;
    sparse.AddSparse({});
    sparse.bytes.resize(kStart + keep);
    CHECK(sparse.Parse() == APERTURE_E_CAPABILITIES);
  }
  for (const uint32_t claimed : {3u, 0x10000000u, 0x10000001u, 0xffffffffu}) {
    Answer answer;
    answer.AddSparse({{0, 0x1000}, {0x2000, 0x1000}}, claimed);
    CHECK(answer.Parse() == APERTURE_E_CAPABILITIES);
  }
  Answer twice;
  twice.AddSparse({});
  twice.AddSparse({});
  CHECK(twice.Parse() == APERTURE_E_CAPABILITIES);
  Answer later;
  later.AddSparse({}, 0, 2);
  CHECK(later.Parse() == APERTURE_E_CAPABILITIES);
}

std::vector<RegionArea> Pages(size_t count) {
  std::vector<RegionArea> areas;
  for (size_t i = 0; i < count; i++) areas.push_back({0x2000 * i, 0x1000});
  return areas;
}

TEST(client_region_with_more_areas_than_it_takes) {
  Answer most;
  most.AddSparse(Pages(APERTURE_MAX_AREAS));
  CHECK(most.Parse() == 0);
  Answer more;
  more.AddSparse(Pages(APERTURE_MAX_AREAS + 1));
  CHECK(more.Parse() == APERTURE_E_TOO_MANY);
}

// Two readers, one truth.
TEST(client_region_agrees_with_the_daemon_on_random_bytes) {
  std::mt19937 random(20260102);
  int accepted = 0;
  constexpr int kRounds = 60000;
  for (int round = 0; round < kRounds; round++) {
    Answer answer;
    for (int capabilities = static_cast<int>(1 + random() % 3); capabilities > 0; capabilities--) {
      std::vector<RegionArea> areas(random() % 4);
      for (RegionArea& area : areas) area = {random() % 8 * 0x1000, random() % 4 * 0x1000};
      const uint32_t claimed =
          random() % 8 == 0 ? static_cast<uint32_t>(random() % 5) : static_cast<uint32_t>(areas.size());
      if (random() % 2 == 0)
        answer.AddSparse(areas, claimed);
      else
        answer.Add(static_cast<uint16_t>(random() % 5), 1,
                   Bytes(random() % 20, static_cast<uint8_t>(random())));
    }
    for (int edits = static_cast<int>(random() % 3); edits > 0; edits--)
      answer.bytes[kStart + random() % (answer.bytes.size() - kStart)] = static_cast<uint8_t>(random());
    if (random() % 8 == 0) answer.bytes.resize(kStart + random() % (answer.bytes.size() - kStart + 1));
    aperture_region region;
    const int got = answer.Parse(&region);
    RegionCaps caps;
    const Bytes exact(answer.bytes);
    uint32_t first;
    memcpy(&first, exact.data() + 12, sizeof(first));
    const char* fault = WalkRegionCaps(exact.data(), exact.size(), first, &caps);
    MappingPlan plan;
    // A page of one byte: the client looks at pages only when it maps.
    if (fault == nullptr && caps.has_sparse) fault = PlanMapping(0, kSize, caps.sparse, 1, &plan);
    if (!CHECK((fault == nullptr) == (got == 0))) return;
    if (got != 0) continue;
    accepted++;
    CHECK((region.msix_mappable != 0) == caps.msix_mappable && region.type == caps.type &&
          region.subtype == caps.subtype);
    if (!caps.has_sparse) continue;
    CHECK(region.area_count == plan.areas.size());
    for (size_t i = 0; i < plan.areas.size(); i++)
      CHECK(region.areas[i].offset == plan.areas[i].offset && region.areas[i].size == plan.areas[i].size);
  }
  CHECK(accepted > kRounds / 20 && accepted < kRounds * 19 / 20);
}

// The kernel's rule for buffers that are too small: success, the flag, no chain, and the size that it takes.
struct Kernel {
  Answer answer;
  int calls = 0;
  uint32_t grow_by = 0;
  int error = 0;
  int fail_at = 0;

  int Ask(aperture_region* region, uint32_t index = 4) {
    kernel = [this](int fd, unsigned long request, void* argument) {
      CHECK(fd == 33 && request == vfio::kDeviceGetRegionInfo);
      uint32_t given;
      memcpy(&given, argument, sizeof(given));
      if (++calls == fail_at) return error;
      const uint32_t needed = grow_by > 0 ? given + grow_by : static_cast<uint32_t>(answer.bytes.size());
      if (needed <= given) {
        memcpy(argument, answer.bytes.data(), answer.bytes.size());
        memcpy(argument, &given, sizeof(given));
      } else {
        memcpy(argument, answer.bytes.data(), kStart);
        memcpy(argument, &needed, sizeof(needed));
        memset(static_cast<uint8_t*>(argument) + 12, 0, 4);
      }
      return 0;
    };
    const int got = aperture_region_info(33, index, region);
    kernel = nullptr;
    return got;
  }
};

TEST(client_region_info_asks_again_with_room) {
  Kernel once;
  once.answer = Answer(kSize, 7);
  aperture_region region;
  CHECK(once.Ask(&region) == 0 && once.calls == 1);
  Kernel twice;
  twice.answer.AddSparse(Pages(20));
  CHECK(twice.Ask(&region) == 0 && twice.calls == 2 && region.area_count == 20);
}

TEST(client_region_info_ends) {
  aperture_region region;
  Kernel growing;
  growing.grow_by = 16;
  CHECK(growing.Ask(&region) == APERTURE_E_CAPABILITIES && growing.calls == 3);
  Kernel large;
  large.grow_by = 65536;
  CHECK(large.Ask(&region) == APERTURE_E_TOO_MANY && large.calls == 1);
  for (int round = 1; round <= 2; round++) {
    Kernel failing;
    failing.answer.AddSparse(Pages(20));
    failing.fail_at = round;
    failing.error = EINVAL;
    CHECK(failing.Ask(&region) == -EINVAL && failing.calls == round);
  }
  Kernel other;
  other.answer = Answer(kSize, 7, 5);
  CHECK(other.Ask(&region) == APERTURE_E_REGION);
}

TEST(client_binds) {
  kernel = [](int fd, unsigned long request, void* argument) {
    uint32_t words[4];
    memcpy(words, argument, sizeof(words));
    CHECK(fd == 40 && request == vfio::kDeviceBindIommufd && words[0] == 16 && words[1] == 0 &&
          words[2] == 41);
    words[3] = 5;
    memcpy(argument, words, sizeof(words));
    return 0;
  };
  uint32_t id = 0;
  CHECK(aperture_bind(40, 41, &id) == 0 && id == 5);
  CHECK(aperture_bind(40, 41, nullptr) == 0);
  kernel = [](int, unsigned long, void*) { return EINVAL; };
  CHECK(aperture_bind(40, 41, &id) == -EINVAL);
  kernel = nullptr;
}

TEST(client_areas_of_the_caller) {
  aperture_region region;
  CHECK(Answer(kSize, 7).Parse(&region) == 0);
  const aperture_area areas[] = {{0x2000, 0x1000}, {0x5000, 0}, {0, 0x1000}};
  CHECK(aperture_region_set_areas(&region, areas, 3) == 0);
  CHECK(region.area_count == 2 && region.areas[0].offset == 0 && region.backed_size == 0x3000);
  const aperture_area overlapping[] = {{0, 0x1001}, {0x1000, 0x1000}};
  CHECK(aperture_region_set_areas(&region, overlapping, 2) == APERTURE_E_REGION && region.area_count == 2);
  CHECK(aperture_region_set_areas(&region, nullptr, 0) == 0 && region.area_count == 0);
}

}  // namespace
}  // namespace aperture::client_test
