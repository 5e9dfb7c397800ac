# What every target of parley's own has in common, and how the arrows between the rooms are kept.

set(PARLEY_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion)

# parley_target(target): the language, the warnings and the sanitizers. All of it is the target's own affair and none of
# it reaches a project that uses parley, with one exception: a sanitized library needs its users sanitized too.
function(parley_target target)
    target_compile_features(${target} PUBLIC cxx_std_20)
    set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
    target_compile_options(${target} PRIVATE ${PARLEY_WARNINGS} $<$<BOOL:${PARLEY_WERROR}>:-Werror>)

    if(PARLEY_SANITIZE STREQUAL "address")
        set(flags -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
    elseif(PARLEY_SANITIZE STREQUAL "thread")
        set(flags -fsanitize=thread -fno-omit-frame-pointer)
    else()
        return()
    endif()
    target_compile_options(${target} PUBLIC ${flags})
    target_link_options(${target} PUBLIC ${flags})
endfunction()

# parley_library(target name): the target is installed as parley::name. Shared libraries find each other where they lie.
function(parley_library target name)
    parley_target(${target})
    set_target_properties(${target} PROPERTIES
        EXPORT_NAME ${name}
        VERSION "${PROJECT_VERSION}"
        SOVERSION "${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}"
        INSTALL_RPATH "$ORIGIN")
endfunction()

# parley_sees(target room...): the target compiles against these folders of include/parley and no others. They are
# reached through a folder of links in the build tree, so <parley/core/Communicator.h> is spelled alike everywhere, and
# an include against the arrows ("core may not know the coroutine layer") fails to compile instead of passing unseen.
function(parley_sees target)
    set(view "${PROJECT_BINARY_DIR}/sees/${target}")
    file(REMOVE_RECURSE "${view}")
    file(MAKE_DIRECTORY "${view}/parley")
    foreach(room IN LISTS ARGN)
        file(CREATE_LINK "${PROJECT_SOURCE_DIR}/include/parley/${room}" "${view}/parley/${room}" SYMBOLIC)
    endforeach()
    file(CREATE_LINK "${PARLEY_GENERATED_INCLUDE}/parley/config.hpp" "${view}/parley/config.hpp" SYMBOLIC)
    target_include_directories(${target} PRIVATE "${view}")
endfunction()
