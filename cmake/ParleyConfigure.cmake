# Decides what <parley/config.hpp> says, from the compiler and the sanitizers, and writes it.

if(NOT PARLEY_SANITIZE MATCHES "^(address|thread|)$")
    message(FATAL_ERROR "PARLEY_SANITIZE is address, thread or empty, not \"${PARLEY_SANITIZE}\"")
endif()

# A parent project, or a packager, may ask for a sanitizer by plain flags.
string(TOUPPER "${CMAKE_BUILD_TYPE}" _build_type)
if(PARLEY_SANITIZE OR "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${_build_type}}" MATCHES "-fsanitize=[a-z,]*(address|thread)")
    set(_sanitized TRUE)
else()
    set(_sanitized FALSE)
endif()

# GCC makes the tail calls that symmetric transfer needs at every level of optimisation once it is told
# -foptimize-sibling-calls (a public option of parley::parley), but never under ASan or TSan. Clang always does.
if(_sanitized AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(PARLEY_SYMMETRIC_TRANSFER 0)
else()
    set(PARLEY_SYMMETRIC_TRANSFER 1)
endif()

if(_sanitized)
    set(PARLEY_FRAME_POOL 0)
else()
    set(PARLEY_FRAME_POOL 1)
endif()

if(PARLEY_SYMMETRIC_TRANSFER)
    set(PARLEY_ABI parley_abi_st)
else()
    set(PARLEY_ABI parley_abi_flat)
endif()
if(NOT PARLEY_FRAME_POOL)
    string(APPEND PARLEY_ABI "_nopool")
endif()

if(PARLEY_SIGHT)
    set(PARLEY_SIGHT_VALUE 1)
else()
    set(PARLEY_SIGHT_VALUE 0)
    string(APPEND PARLEY_ABI "_nosight")
endif()

set(PARLEY_GENERATED_INCLUDE "${PROJECT_BINARY_DIR}/include")
configure_file("${CMAKE_CURRENT_LIST_DIR}/config.hpp.in" "${PARLEY_GENERATED_INCLUDE}/parley/config.hpp" @ONLY)
