// [pure] The question for a reset set, against a kernel whose answer does not fit, changes, or makes no
// sense.
#include "sys/hot_reset.h"

#include <cerrno>
#include <cstring>

#include "check.h"
#include "sys/abi_vfio.h"

namespace aperture {
namespace {

struct Kernel {
  // Functions that there are in each round; the last count stays.
  std::vector<uint32_t> counts = {1};
  int error = 0;
  int calls = 0;
  // Claims success although not all fitted.
  bool lies = false;

  int Answer(void* buffer) {
    const uint32_t count = counts[std::min<size_t>(static_cast<size_t>(calls++), counts.size() - 1)];
    vfio::HotResetInfo info;
    memcpy(&info, buffer, sizeof(info));
    const uint32_t room = (info.argsz - static_cast<uint32_t>(sizeof(info))) /
                          static_cast<uint32_t>(sizeof(vfio::DependentDevice));
    info.count = count;
    memcpy(buffer, &info, sizeof(info));
    if (error != 0) return error;
    if (count > room && !lies) return ENOSPC;
    for (uint32_t i = 0; i < count && i < room; i++) {
      const vfio::DependentDevice device = {7, 0x1234, 3, static_cast<uint8_t>(i)};
      memcpy(static_cast<uint8_t*>(buffer) + sizeof(info) + i * sizeof(device), &device, sizeof(device));
    }
    return 0;
  }
  Result<std::vector<ResetFunction>> Query() {
    return QueryHotReset([this](void* buffer) { return Answer(buffer); }, "0000:01:00.0");
  }
};

TEST(hot_reset_fits_at_once) {
  Kernel kernel;
  kernel.counts = {3};
  const auto set = kernel.Query();
  CHECK(set.ok() && kernel.calls == 1 && set.value().size() == 3);
  CHECK(set.value()[2].segment == 0x1234 && set.value()[2].bus == 3 && set.value()[2].devfn == 2);
}

TEST(hot_reset_asks_again_with_room) {
  Kernel kernel;
  kernel.counts = {200};
  const auto set = kernel.Query();
  CHECK(set.ok() && kernel.calls == 2 && set.value().size() == 200);
}

TEST(hot_reset_growing_between_rounds) {
  Kernel kernel;
  kernel.counts = {40, 50};
  const auto set = kernel.Query();
  CHECK(set.ok() && kernel.calls == 3 && set.value().size() == 50);
}

TEST(hot_reset_growing_for_ever) {
  Kernel kernel;
  kernel.counts = {40, 50, 60};
  const auto set = kernel.Query();
  CHECK(!set.ok() && set.error().code == "BAD_ANSWER" && kernel.calls == 3);
}

TEST(hot_reset_count_beyond_what_was_written) {
  Kernel kernel;
  kernel.counts = {200};
  kernel.lies = true;
  const auto set = kernel.Query();
  CHECK(set.ok() && kernel.calls == 2 && set.value().size() == 200);
}

TEST(hot_reset_of_more_than_a_segment) {
  Kernel kernel;
  kernel.counts = {0x40000000};
  const auto set = kernel.Query();
  CHECK(!set.ok() && set.error().code == "BAD_ANSWER" && kernel.calls == 1);
}

TEST(hot_reset_impossible) {
  Kernel kernel;
  kernel.error = ENODEV;
  const auto set = kernel.Query();
  CHECK(!set.ok() && set.error().code == "ENODEV" && kernel.calls == 1);
  CHECK(set.error().operation == "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO" &&
        set.error().subject == "0000:01:00.0");
}

}  // namespace
}  // namespace aperture
