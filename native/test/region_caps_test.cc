// [pure] The capability walker against chains no kernel should send, and against bytes nobody chose.
#include "sys/region_caps.h"

#include <cstring>
#include <random>

#include "check.h"
#include "sys/abi_vfio.h"
#include "sys/vfio.h"

namespace aperture {
namespace {

constexpr size_t kStart = sizeof(vfio::RegionInfo);

// A buffer to which capabilities are appended as the kernel does.
struct Chain {
  std::vector<uint8_t> bytes = std::vector<uint8_t>(kStart);
  size_t last = 0;  // where the last header stands

  size_t Add(uint16_t id, uint16_t version, const void* body, size_t length) {
    const size_t at = bytes.size();
    if (last != 0) Link(last, static_cast<uint32_t>(at));
    const vfio::CapHeader header = {id, version, 0};
    bytes.resize(at + sizeof(header) + length);
    memcpy(&bytes[at], &header, sizeof(header));
    if (length > 0) memcpy(&bytes[at + sizeof(header)], body, length);
    last = at;
    return at;
  }
  size_t AddSparse(uint32_t claimed, const std::vector<RegionArea>& areas, uint16_t version = 1) {
    std::vector<uint8_t> body(8 + areas.size() * 16);
    memcpy(body.data(), &claimed, sizeof(claimed));
    if (!areas.empty()) memcpy(body.data() + 8, areas.data(), areas.size() * 16);
    return Add(vfio::kCapSparseMmap, version, body.data(), body.size());
  }
  size_t AddType(uint32_t type, uint32_t subtype) {
    const uint32_t body[2] = {type, subtype};
    return Add(vfio::kCapType, 1, body, sizeof(body));
  }
  void Link(size_t from, uint32_t to) { memcpy(&bytes[from + 4], &to, sizeof(to)); }
  const char* Walk(RegionCaps* caps, uint32_t first = kStart) const {
    // An exactly sized heap copy: the sanitizer sees one byte too far.
    const std::vector<uint8_t> exact(bytes);
    return WalkRegionCaps(exact.data(), exact.size(), first, caps);
  }
  bool Refused(const char* reason, uint32_t first = kStart) const {
    RegionCaps caps;
    const char* fault = Walk(&caps, first);
    return fault != nullptr && strcmp(fault, reason) == 0;
  }
};

TEST(caps_of_nvgrace) {
  Chain chain;
  chain.AddSparse(1, {{0, 0x20000000}});
  RegionCaps caps;
  CHECK(chain.Walk(&caps) == nullptr);
  CHECK(caps.has_sparse && caps.sparse.size() == 1 && caps.sparse[0].size == 0x20000000);
  CHECK(!caps.has_type && !caps.msix_mappable);
}

TEST(caps_all_kinds_and_an_unknown_one) {
  Chain chain;
  chain.AddType(0x80008086, 1);
  chain.Add(77, 9, "abcdefgh", 8);
  chain.AddSparse(2, {{0, 0}, {0x3000, 0x1000}});
  chain.Add(vfio::kCapMsixMappable, 1, nullptr, 0);
  RegionCaps caps;
  CHECK(chain.Walk(&caps) == nullptr);
  CHECK(caps.has_type && caps.type == 0x80008086 && caps.subtype == 1);
  CHECK(caps.sparse.size() == 2 && caps.sparse[0].size == 0 && caps.sparse[1].offset == 0x3000);
  CHECK(caps.msix_mappable);
}

TEST(caps_unaligned_as_before_linux_6_6) {
  Chain chain;
  chain.Add(77, 1, "xyz", 3);
  chain.AddSparse(1, {{0x1000, 0x2000}});
  RegionCaps caps;
  CHECK(chain.Walk(&caps) == nullptr);
  CHECK(caps.sparse.size() == 1 && caps.sparse[0].offset == 0x1000);
}

TEST(caps_no_areas) {
  Chain chain;
  chain.AddSparse(0, {});
  RegionCaps caps;
  CHECK(chain.Walk(&caps) == nullptr);
  CHECK(caps.has_sparse && caps.sparse.empty());
}

TEST(caps_loop_to_itself) {
  Chain chain;
  const size_t at = chain.AddType(1, 2);
  chain.Link(at, static_cast<uint32_t>(at));
  CHECK(chain.Refused("link leads backward"));
}

TEST(caps_loop_of_two) {
  Chain chain;
  const size_t first = chain.Add(77, 1, nullptr, 0);
  const size_t second = chain.Add(78, 1, nullptr, 0);
  chain.Link(second, static_cast<uint32_t>(first));
  CHECK(chain.Refused("link leads backward"));
}

TEST(caps_backward_into_the_fixed_part) {
  Chain chain;
  const size_t at = chain.AddType(1, 2);
  for (uint32_t to = 1; to < kStart; to++) {
    chain.Link(at, to);
    CHECK(chain.Refused("link leads backward"));
  }
  CHECK(chain.Refused("link leads backward", 8));
}

TEST(caps_link_into_the_areas_of_the_one_before) {
  Chain chain;
  const size_t at = chain.AddSparse(2, {{0, 0x1000}, {0x2000, 0x1000}});
  chain.Link(at, static_cast<uint32_t>(at + 16));
  CHECK(chain.Refused("link leads backward"));
}

TEST(caps_beyond_the_end) {
  Chain chain;
  const size_t at = chain.AddType(1, 2);
  for (const uint32_t to : {static_cast<uint32_t>(chain.bytes.size()),
                            static_cast<uint32_t>(chain.bytes.size() + 1), 4096u, 0x7fffffffu, 0xffffffffu}) {
    chain.Link(at, to);
    CHECK(chain.Refused("link leads beyond the end"));
  }
  CHECK(chain.Refused("link leads beyond the end", 0xfffffff8u));
}

TEST(caps_header_crosses_the_end) {
  for (size_t keep = 0; keep < sizeof(vfio::CapHeader); keep++) {
    Chain chain;
    chain.AddType(1, 2);
    chain.bytes.resize(kStart + keep);
    CHECK(chain.Refused("link leads beyond the end"));
  }
}

TEST(caps_body_crosses_the_end) {
  for (size_t keep = sizeof(vfio::CapHeader); keep < sizeof(vfio::CapType); keep++) {
    Chain chain;
    chain.AddType(1, 2);
    chain.bytes.resize(kStart + keep);
    CHECK(chain.Refused("type capability crosses the end"));
    Chain sparse;
    sparse.AddSparse(0, {});
    sparse.bytes.resize(kStart + keep);
    CHECK(sparse.Refused("sparse-mmap capability crosses the end"));
  }
}

TEST(caps_more_areas_than_bytes) {
  for (const uint32_t claimed : {3u, 4u, 0x10000000u, 0x10000001u, 0xffffffffu}) {
    Chain chain;
    chain.AddSparse(claimed, {{0, 0x1000}, {0x2000, 0x1000}});
    CHECK(chain.Refused("sparse-mmap areas cross the end"));
  }
}

TEST(caps_twice_or_of_another_version) {
  Chain twice;
  twice.AddSparse(0, {});
  twice.AddSparse(0, {});
  CHECK(twice.Refused("sparse-mmap capability twice"));
  Chain types;
  types.AddType(1, 2);
  types.AddType(1, 2);
  CHECK(types.Refused("type capability twice"));
  Chain later;
  later.AddSparse(0, {}, 2);
  CHECK(later.Refused("sparse-mmap capability of an unknown version"));
}

TEST(caps_none_although_promised) {
  const Chain chain;
  CHECK(chain.Refused("no first capability", 0));
}

// Whatever comes, the walker ends, stays inside, and what it accepts is true of the bytes.
TEST(caps_random_bytes) {
  std::mt19937 random(20240229);
  int accepted = 0;
  constexpr int kRounds = 200000;
  for (int round = 0; round < kRounds; round++) {
    Chain chain;
    const int capabilities = static_cast<int>(random() % 4);
    for (int i = 0; i < capabilities; i++) {
      switch (random() % 3) {
        case 0:
          chain.AddSparse(static_cast<uint32_t>(random() % 4), std::vector<RegionArea>(random() % 4));
          break;
        case 1:
          chain.AddType(static_cast<uint32_t>(random()), 1);
          break;
        default:
          chain.Add(static_cast<uint16_t>(random() % 5), 1, "0123456789", random() % 10);
      }
    }
    for (int edits = static_cast<int>(random() % 4); edits > 0; edits--)
      chain.bytes[random() % chain.bytes.size()] = static_cast<uint8_t>(random());
    if (random() % 8 == 0) chain.bytes.resize(random() % (chain.bytes.size() + 1));
    RegionCaps caps;
    const uint32_t first = random() % 8 == 0 ? static_cast<uint32_t>(random() % 300) : kStart;
    if (chain.Walk(&caps, first) != nullptr) continue;
    accepted++;
    CHECK(first >= kStart);
    CHECK(caps.sparse.size() * 16 <= chain.bytes.size());
    CHECK(caps.has_sparse || caps.sparse.empty());
  }
  // Both outcomes must be frequent, or the loop tests nothing.
  CHECK(accepted > kRounds / 20 && accepted < kRounds * 19 / 20);
}

// Plays the kernel: a chain, and the rule for buffers that are too small.
struct Kernel {
  Chain chain;
  int calls = 0;
  uint32_t grow_by = 0;  // what each answer claims to need on top of what it was given
  uint32_t flags = 0xf;
  int fail_at = 0;
  int error = 0;
  uint32_t index = 4;

  int Answer(void* buffer) {
    if (++calls == fail_at) return error;
    vfio::RegionInfo info;
    memcpy(&info, buffer, sizeof(info));
    const uint32_t given = info.argsz;
    info.index = index;
    info.flags = flags;
    info.size = 0x40000000;
    info.offset = uint64_t{4} << 40;
    if (grow_by > 0 || chain.bytes.size() > given) {
      info.argsz = grow_by > 0 ? given + grow_by : static_cast<uint32_t>(chain.bytes.size());
      info.cap_offset = 0;
    } else if ((flags & vfio::kRegionFlagCaps) != 0) {
      memcpy(static_cast<uint8_t*>(buffer) + kStart, chain.bytes.data() + kStart,
             chain.bytes.size() - kStart);
      info.cap_offset = kStart;
    }
    memcpy(buffer, &info, sizeof(info));
    return 0;
  }
  Result<RegionFacts> Query() {
    return QueryRegion([this](void* buffer) { return Answer(buffer); }, 4, "0000:01:00.0");
  }
};

TEST(query_fits_at_once) {
  Kernel kernel;
  kernel.chain.AddSparse(1, {{0, 0x20000000}});
  const Result<RegionFacts> facts = kernel.Query();
  CHECK(facts.ok() && kernel.calls == 1);
  CHECK(facts.value().size == 0x40000000 && facts.value().offset == uint64_t{4} << 40);
  CHECK(facts.value().caps.sparse[0].size == 0x20000000);
}

TEST(query_without_capabilities) {
  Kernel kernel;
  kernel.flags = 7;
  const Result<RegionFacts> facts = kernel.Query();
  CHECK(facts.ok() && kernel.calls == 1 && !facts.value().caps.has_sparse);
}

TEST(query_asks_again_with_room) {
  Kernel kernel;
  kernel.chain.AddSparse(100, std::vector<RegionArea>(100, {0x1000, 0x1000}));
  const Result<RegionFacts> facts = kernel.Query();
  CHECK(facts.ok() && kernel.calls == 2 && facts.value().caps.sparse.size() == 100);
}

TEST(query_growing_for_ever) {
  Kernel kernel;
  kernel.grow_by = 16;
  const Result<RegionFacts> facts = kernel.Query();
  CHECK(!facts.ok() && facts.error().code == "BAD_ANSWER" && kernel.calls == 3);
}

TEST(query_larger_than_any_region) {
  Kernel kernel;
  kernel.grow_by = 64 * 1024;
  const Result<RegionFacts> facts = kernel.Query();
  CHECK(!facts.ok() && facts.error().code == "BAD_ANSWER" && kernel.calls == 1);
}

TEST(query_bad_chain_names_the_region) {
  Kernel kernel;
  kernel.chain.Link(kernel.chain.AddType(1, 2), kStart);
  const Result<RegionFacts> facts = kernel.Query();
  CHECK(!facts.ok() && facts.error().code == "BAD_CAPABILITY_CHAIN" && facts.error().number == 0);
  CHECK(facts.error().operation == "VFIO_DEVICE_GET_REGION_INFO");
  CHECK(facts.error().subject == "0000:01:00.0 region 4: link leads backward");
}

TEST(query_error_of_each_round) {
  for (int round = 1; round <= 2; round++) {
    Kernel kernel;
    kernel.chain.AddSparse(100, std::vector<RegionArea>(100, {0x1000, 0x1000}));
    kernel.fail_at = round;
    kernel.error = EINVAL;
    const Result<RegionFacts> facts = kernel.Query();
    CHECK(!facts.ok() && facts.error().number == EINVAL && facts.error().code == "EINVAL");
  }
}

TEST(query_answer_about_another_region) {
  Kernel kernel;
  kernel.index = 5;
  const Result<RegionFacts> facts = kernel.Query();
  CHECK(!facts.ok() && facts.error().code == "BAD_ANSWER");
}

TEST(uuid) {
  Uuid uuid;
  CHECK(ParseUuid("00112233-4455-6677-8899-aabbccddeeFF", &uuid));
  for (size_t i = 0; i < uuid.size(); i++) CHECK(uuid[i] == i * 0x11);
  for (const char* bad : {"", "00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899-aabbccddeefff",
                          "0011223g-4455-6677-8899-aabbccddeeff", "00112233+4455-6677-8899-aabbccddeeff",
                          "001122334-455-6677-8899-aabbccddeeff"})
    CHECK(!ParseUuid(bad, &uuid));
}

}  // namespace
}  // namespace aperture
