// What one operation costs: getppid, and the first touch of an anonymous page.
//
//   micro FIRST_WINDOW COUNT
//
// Each operation is done COUNT times between the noise meter's window markers (numbers FIRST_WINDOW for getppid, the next
// for the page), and COUNT times with a time stamp around each. Prints one line for each operation: NAME MEDIAN_NS.
// Exit status: 0 done, 1 the system refused memory, 2 bad arguments.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096 };

// The number is part of the instruction, so each window has its own.
#define WINDOW(number)                                                                                                   \
    static void begin_##number(void) { __asm__ volatile("nopl 0x4e51570" #number "(%%rax)" ::: "memory"); }             \
    static void end_##number(void) { __asm__ volatile("nopl 0x4e51770" #number "(%%rax)" ::: "memory"); }
WINDOW(1)
WINDOW(2)
WINDOW(3)
WINDOW(4)
static void (*const begin[])(void) = {0, begin_1, begin_2, begin_3, begin_4};
static void (*const end[])(void) = {0, end_1, end_2, end_3, end_4};

static void getppid_once(char *page)
{
    (void)page;
    // Not through the C library: some keep the answer.
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_getppid) : "rcx", "r11", "memory");
}

static void touch_once(char *page)
{
    *(volatile char *)page = 1;
}

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare(const void *left, const void *right)
{
    uint64_t l = *(const uint64_t *)left, r = *(const uint64_t *)right;
    return l < r ? -1 : l > r;
}

static char *pages(size_t count)
{
    char *memory = mmap(0, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("micro: mmap");
        exit(1);
    }
    // Whole pages of 4 KiB: a huge page would be one fault for 512.
    madvise(memory, count * PAGE, MADV_NOHUGEPAGE);
    return memory;
}

static void measure(const char *name, int window, size_t count, uint64_t *times, void (*operation)(char *))
{
    char *counted = pages(count), *timed = pages(count);
    operation(timed);
    begin[window]();
    for (size_t i = 0; i < count; i++)
        operation(counted + i * PAGE);
    end[window]();
    for (size_t i = 1; i < count; i++) {
        uint64_t start = nanoseconds();
        operation(timed + i * PAGE);
        times[i] = nanoseconds() - start;
    }
    qsort(times + 1, count - 1, sizeof *times, compare);
    printf("%s %llu\n", name, (unsigned long long)times[1 + (count - 1) / 2]);
    munmap(counted, count * PAGE);
    munmap(timed, count * PAGE);
}

int main(int argc, char **argv)
{
    int window = argc == 3 ? atoi(argv[1]) : 0;
    long count = argc == 3 ? atol(argv[2]) : 0;
    if ((window != 1 && window != 3) || count < 10 || count > 10000) {
        fprintf(stderr, "usage: micro 1|3 COUNT (10 to 10000)\n");
        return 2;
    }
    uint64_t *times = malloc((size_t)count * sizeof *times);
    if (!times)
        return 1;
    for (long i = 0; i < count; i++)
        times[i] = 0;
    measure("getppid", window, (size_t)count, times, getppid_once);
    measure("fault", window + 1, (size_t)count, times, touch_once);
    return 0;
}
