// Reads a page COUNT times over one connection, as Prometheus does, each to its end, and prints the median of
// the times as JSON. A client that costs as little as can be: what is to be seen is the server.
// Usage: http_get URL COUNT LINE   (LINE: how a line begins that has to be there)

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PAGE = 64 << 20, MAX_COUNT = 1000 };

static void die(const char* what) {
  perror(what);
  exit(1);
}

static void fail(const char* what) {
  fprintf(stderr, "http_get: %s\n", what);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static int compare(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static char* page;

static size_t more(int connection, size_t have) {
  if (have == MAX_PAGE) fail("the page is too long");
  const ssize_t got = read(connection, page + have, MAX_PAGE - have);
  if (got < 0) die("read");
  if (got == 0) fail("the server has closed the connection");
  return have + (size_t)got;
}

// Length of the body, whose begin goes to *body.
static size_t get(int connection, const char* request, const char** body) {
  if (write(connection, request, strlen(request)) != (ssize_t)strlen(request)) die("write");
  size_t have = 0;
  const char* end = NULL;
  while (end == NULL) {
    have = more(connection, have);
    end = memmem(page, have, "\r\n\r\n", 4);
  }
  if (strncmp(page, "HTTP/1.1 200 ", 13) != 0) fail("the answer is not 200");
  *body = end + 4;
  page[end - page] = '\0';
  const char* const length = strcasestr(page, "\r\ncontent-length:");
  if (length == NULL) fail("the answer has no length");
  const size_t wanted = strtoul(length + strlen("\r\ncontent-length:"), NULL, 10);
  const size_t head = (size_t)(*body - page);
  while (have < head + wanted) have = more(connection, have);
  return wanted;
}

int main(int argc, char** argv) {
  int port = 0;
  char host[64], path[256] = "/";
  if (argc != 4 || sscanf(argv[1], "http://%63[0-9.]:%d%255s", host, &port, path) < 2) {
    fprintf(stderr, "usage: http_get http://ADDRESS:PORT[/PATH] COUNT LINE\n");
    return 2;
  }
  const int count = atoi(argv[2]);
  if (count < 1 || count > MAX_COUNT) return 2;
  page = malloc(MAX_PAGE);
  if (page == NULL) die("malloc");
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) return 2;
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connection < 0 || connect(connection, (struct sockaddr*)&address, sizeof address) < 0) die("connect");
  char request[512], line[256];
  snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%d\r\n\r\n", path, host, port);
  snprintf(line, sizeof line, "\n%s", argv[3]);

  double took[MAX_COUNT];
  size_t bytes = 0;
  for (int i = 0; i < count; i++) {
    const char* body;
    const double begin = now();
    bytes = get(connection, request, &body);
    took[i] = now() - begin;
    if (memmem(body, bytes, line, strlen(line)) == NULL) fail("the line is not there");
  }
  qsort(took, (size_t)count, sizeof *took, compare);
  printf("{\"milliseconds\":%.4f,\"bytes\":%zu}\n", took[count / 2], bytes);
  return 0;
}
