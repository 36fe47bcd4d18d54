/* System calls that no hook sees: the harness's own, and those of programs that make them
 * themselves. They return -errno. */
#pragma once
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/syscall.h>

static inline long raw6(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
#else
#error "no system calls for this architecture yet"
#endif
}

#define RAW_PICK(_1, _2, _3, _4, _5, _6, _7, name, ...) name
#define RAW_7(n, a, b, c, d, e, f) \
    raw6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define RAW_6(n, a, b, c, d, e) RAW_7(n, a, b, c, d, e, 0)
#define RAW_5(n, a, b, c, d) RAW_6(n, a, b, c, d, 0)
#define RAW_4(n, a, b, c) RAW_5(n, a, b, c, 0)
#define RAW_3(n, a, b) RAW_4(n, a, b, 0)
#define RAW_2(n, a) RAW_3(n, a, 0)
#define RAW_1(n) RAW_2(n, 0)
#define raw(...) \
    RAW_PICK(__VA_ARGS__, RAW_7, RAW_6, RAW_5, RAW_4, RAW_3, RAW_2, RAW_1)(__VA_ARGS__)
