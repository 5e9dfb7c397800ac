// Which sanitizer looks on, for code that switches stacks.

#pragma once

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PARLEY_ASAN 1
#elif __has_feature(thread_sanitizer)
#define PARLEY_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(PARLEY_ASAN)
#define PARLEY_ASAN 1
#elif defined(__SANITIZE_THREAD__) && !defined(PARLEY_TSAN)
#define PARLEY_TSAN 1
#endif

#ifdef PARLEY_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef PARLEY_TSAN
#include <sanitizer/tsan_interface.h>
#endif
