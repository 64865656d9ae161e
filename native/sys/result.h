// Every failure that leaves native/sys is one SysError, and MakeError() is the only function that builds one.
// A binding that builds errors where they happen ends up with some that carry no errno and some with another
// call's name; here neither can be forgotten, because there is no other constructor to reach for.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace aperture {

struct SysError {
  std::string operation;
  int number;  // errno; 0 when we refused something by ourselves
  std::string code;
  std::string subject;
};

// The symbolic name of an errno. A table of ours: strerrorname_np() exists in glibc 2.32 and nowhere else.
const char* ErrnoName(int number);

// code null: the errno's own name.
SysError MakeError(const char* operation, int number, std::string subject, const char* code = nullptr);

// The value of a call that has nothing to say but that it worked.
struct None {};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}         // NOLINT: `return value;` is the point
  Result(SysError error) : state_(std::move(error)) {}  // NOLINT
  bool ok() const { return std::holds_alternative<T>(state_); }
  T& value() { return *std::get_if<T>(&state_); }
  const T& value() const { return *std::get_if<T>(&state_); }
  const SysError& error() const { return *std::get_if<SysError>(&state_); }

 private:
  std::variant<T, SysError> state_;
};

}  // namespace aperture
