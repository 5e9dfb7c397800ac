# What `cmake --install` puts where: the libraries, the public headers, the CMake package and parley.pc.
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/parley")

install(TARGETS parley_core parley_protocol parley_coro parley_sim EXPORT parleyTargets
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
if(TARGET parley-tool)
    install(TARGETS parley-tool RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/parley" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
    FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(FILES "${PARLEY_GENERATED_INCLUDE}/parley/config.hpp" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/parley")

install(EXPORT parleyTargets NAMESPACE parley:: DESTINATION "${package_dir}")
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/parleyConfig.cmake.in"
    "${PROJECT_BINARY_DIR}/parleyConfig.cmake" INSTALL_DESTINATION "${package_dir}"
    NO_SET_AND_CHECK_MACRO)
# Before 1.0 every minor version may change the interface.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/parleyConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/parleyConfig.cmake" "${PROJECT_BINARY_DIR}/parleyConfigVersion.cmake"
    DESTINATION "${package_dir}")

# parley.pc finds its prefix from where it lies, so an installed tree can be moved.
file(RELATIVE_PATH PARLEY_PC_PREFIX
    "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
string(REGEX REPLACE "/$" "" PARLEY_PC_PREFIX "${PARLEY_PC_PREFIX}")
set(PARLEY_PC_LIBS "-lparley -lparley_protocol -lparley_core")
# A static archive does not know its own dependencies: its users must link them. A shared one does.
if(BUILD_SHARED_LIBS)
    set(PARLEY_PC_PRIVATE "-lboost_context -pthread")
else()
    string(APPEND PARLEY_PC_LIBS " -lboost_context -pthread")
    set(PARLEY_PC_PRIVATE "")
endif()
set(PARLEY_PC_SANITIZE "")
if(PARLEY_SANITIZE STREQUAL "address")
    set(PARLEY_PC_SANITIZE " -fsanitize=address,undefined")
elseif(PARLEY_SANITIZE STREQUAL "thread")
    set(PARLEY_PC_SANITIZE " -fsanitize=thread")
endif()
configure_file("${CMAKE_CURRENT_LIST_DIR}/parley.pc.in" "${PROJECT_BINARY_DIR}/parley.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/parley.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
configure_file("${CMAKE_CURRENT_LIST_DIR}/parley-sim.pc.in" "${PROJECT_BINARY_DIR}/parley-sim.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/parley-sim.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
