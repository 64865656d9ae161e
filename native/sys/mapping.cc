#include "sys/mapping.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "sys/fault_guard.h"

namespace aperture {

namespace {

constexpr int kReserveFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

// The kernel gives addresses from the top down, so what lies right below the last reservation is most
// likely free. Only a guess: MAP_FIXED_NOREPLACE takes nobody's place. 0: none yet.
std::atomic<uintptr_t> below{0};

// The range right below the last one, at a congruent base; null when somebody has part of it.
uint8_t* ReserveBelow(uint64_t length, uint64_t alignment, uint64_t offset) {
  const uintptr_t top = below.load(std::memory_order_relaxed);
  if (top <= length + alignment) return nullptr;
  const uintptr_t most = top - length;
  const uintptr_t base = most - ((most - offset) & (alignment - 1));
  void* const wanted = reinterpret_cast<void*>(base);
  void* const got = mmap(wanted, length, PROT_NONE, kReserveFlags | MAP_FIXED_NOREPLACE, -1, 0);
  return got == MAP_FAILED ? nullptr : static_cast<uint8_t*>(got);
}

// Somewhere: every congruent base lies within `alignment` of any start; what is too much goes back at once.
uint8_t* ReserveAnywhere(uint64_t length, uint64_t alignment, uint64_t offset) {
  const uint64_t total = length + alignment - static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  void* const raw = mmap(nullptr, total, PROT_NONE, kReserveFlags, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  uint8_t* const start = static_cast<uint8_t*>(raw);
  const uint64_t skip = (offset - reinterpret_cast<uintptr_t>(start)) & (alignment - 1);
  if (skip > 0) munmap(start, skip);
  const uint64_t rest = total - skip - length;
  if (rest > 0) munmap(start + skip + length, rest);
  return start + skip;
}

}  // namespace

std::shared_ptr<Reservation> Reservation::Make(uint64_t length, uint64_t alignment, uint64_t offset,
                                               int* error) {
  // PROT_NONE and MAP_NORESERVE: address space only, no memory and no commit charge.
  uint8_t* base = ReserveBelow(length, alignment, offset);
  if (base == nullptr) base = ReserveAnywhere(length, alignment, offset);
  if (base == nullptr) {
    *error = errno;
    return nullptr;
  }
  below.store(reinterpret_cast<uintptr_t>(base), std::memory_order_relaxed);
  return std::shared_ptr<Reservation>(new Reservation(base, length));
}

Reservation::~Reservation() {
  munmap(base_, length_);
  // The last one gives its place back.
  uintptr_t own = reinterpret_cast<uintptr_t>(base_);
  below.compare_exchange_strong(own, own + length_, std::memory_order_relaxed);
}

int Reservation::Revoke() {
  return mmap(base_, length_, PROT_NONE, kReserveFlags | MAP_FIXED, -1, 0) == MAP_FAILED ? errno : 0;
}

Result<std::shared_ptr<Mapping>> Mapping::Map(int fd, uint64_t fd_offset, uint64_t size,
                                              const std::vector<RegionArea>& areas, bool write,
                                              const std::string& subject) {
  MappingPlan plan;
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const char* fault = PlanMapping(fd_offset, size, areas, page, &plan);
  if (fault != nullptr) return MakeError("mmap", 0, subject + ": " + fault, "BAD_ANSWER");
  int failed = InstallFaultHandlers();
  if (failed != 0) return MakeError("sigaction", failed, subject);
  std::shared_ptr<Reservation> reservation =
      Reservation::Make(plan.reserved, plan.alignment, fd_offset, &failed);
  if (reservation == nullptr) return MakeError("mmap", failed, subject);
  for (const RegionArea& area : plan.areas) {
    // MAP_SHARED always: a private mapping of an nvgrace region is a kernel BUG() on first read (7.3.4).
    void* const at =
        mmap(reservation->base() + area.offset, area.size, write ? PROT_READ | PROT_WRITE : PROT_READ,
             MAP_SHARED | MAP_FIXED, fd, static_cast<off_t>(fd_offset + area.offset));
    if (at == MAP_FAILED) return MakeError("mmap", errno, subject);
  }
  return std::shared_ptr<Mapping>(new Mapping(std::move(plan), std::move(reservation), write, subject));
}

bool Mapping::InOneArea(uint64_t offset, uint64_t length) const {
  if (offset >= plan_.size || length == 0) return false;
  const Run run = RunAt(plan_, offset);
  return run.place == Place::kArea && length <= run.length;
}

const char* Mapping::Forbidden(uint64_t offset, uint64_t length, uint64_t* where) const {
  for (uint64_t done = 0; done < length;) {
    const Run run = RunAt(plan_, offset + done);
    *where = offset + done;
    if (run.place == Place::kHole) return "not mappable";
    done += run.length;
  }
  return nullptr;
}

std::string Mapping::At(uint64_t offset) const {
  char text[32];
  snprintf(text, sizeof(text), " at 0x%llx", static_cast<unsigned long long>(offset));
  return subject_ + text;
}

Result<std::vector<uint8_t>> Mapping::Read(uint64_t offset, size_t length) const {
  uint64_t where = 0;
  const char* fault = Forbidden(offset, length, &where);
  if (fault != nullptr) return MakeError("read of mapping", EFAULT, At(where) + ": " + fault);
  // 0xFF is what the driver's own read() gives behind the end of the memory.
  std::vector<uint8_t> bytes(length, 0xff);
  for (size_t done = 0; done < length;) {
    const Run run = RunAt(plan_, offset + done);
    const size_t part = static_cast<size_t>(std::min<uint64_t>(run.length, length - done));
    if (run.place == Place::kArea) {
      const size_t copied = CopyFromMapping(reservation_->base() + offset + done, bytes.data() + done, part);
      if (copied < part) return MakeError("read of mapping", EFAULT, At(offset + done + copied));
    }
    done += part;
  }
  return bytes;
}

Result<None> Mapping::Write(uint64_t offset, const std::vector<uint8_t>& data) const {
  if (!write_) return MakeError("write to mapping", EACCES, At(offset));
  uint64_t where = 0;
  const char* fault = Forbidden(offset, data.size(), &where);
  if (fault != nullptr) return MakeError("write to mapping", EFAULT, At(where) + ": " + fault);
  for (size_t done = 0; done < data.size();) {
    const Run run = RunAt(plan_, offset + done);
    const size_t part = static_cast<size_t>(std::min<uint64_t>(run.length, data.size() - done));
    if (run.place == Place::kArea) {
      const size_t copied = CopyToMapping(reservation_->base() + offset + done, data.data() + done, part);
      if (copied < part) return MakeError("write to mapping", EFAULT, At(offset + done + copied));
    }
    done += part;
  }
  return None();
}

Result<None> Mapping::Unmap() {
  const int failed = reservation_->Revoke();
  if (failed != 0) return MakeError("munmap", failed, subject_);
  return None();
}

}  // namespace aperture
