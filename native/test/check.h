// The smallest test frame that does the job: tests register themselves, a failed CHECK is reported with its
// place and the test goes on, main() prints one line a failure and one with the sum.
#pragma once

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*body)();
};

inline std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

inline int& Failures() {
  static int failures = 0;
  return failures;
}

struct Register {
  Register(const char* name, void (*body)()) { Tests().push_back({name, body}); }
};

inline bool Report(bool ok, const char* file, int line, const char* text) {
  if (!ok) {
    Failures()++;
    fprintf(stderr, "  %s:%d: %s\n", file, line, text);
  }
  return ok;
}

// Open descriptors of this process, the one that counts them left out.
inline int CountDescriptors() {
  DIR* directory = opendir("/proc/self/fd");
  int count = 0;
  while (readdir(directory) != nullptr) count++;
  closedir(directory);
  return count - 3;  // ".", ".." and the directory itself
}

// A directory that is gone after the test.
class Folder {
 public:
  Folder() {
    char pattern[] = "/tmp/aperture-check-XXXXXX";
    if (mkdtemp(pattern) == nullptr) abort();
    path_ = pattern;
  }
  ~Folder() {
    const std::string command = "rm -rf '" + path_ + "'";
    if (system(command.c_str()) != 0) abort();
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace check

#define TEST(name)                                           \
  static void name();                                        \
  static const check::Register register_##name(#name, name); \
  static void name()

#define CHECK(condition) check::Report((condition), __FILE__, __LINE__, #condition)
