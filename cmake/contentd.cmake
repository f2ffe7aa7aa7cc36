# Build vocabulary of the project: compiler flags, and cd_library, cd_program, cd_test, cd_fuzz, cd_proto.
include(CTest)
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

# Assertions stay in what users run: a broken invariant must not go on with their data.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

set(CD_SANITIZE "" CACHE STRING "address (with undefined), thread, or empty")
option(CD_FUZZ "build libFuzzer targets (clang); otherwise they become corpus replayers" OFF)
option(CD_WERROR "treat warnings as errors" ON)

add_compile_options(
  -Wall -Wextra -Wshadow -Wno-unused-parameter -Wno-missing-field-initializers -fno-strict-aliasing
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes> $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
  $<$<COMPILE_LANGUAGE:C>:-Wvla> $<$<COMPILE_LANGUAGE:C>:-Werror=implicit-function-declaration>)
if(CD_WERROR)
  add_compile_options(-Werror)
endif()
add_compile_definitions(_GNU_SOURCE _FILE_OFFSET_BITS=64 CONTENTD_VERSION="${PROJECT_VERSION}")
# Programs load only what they call, whatever the static libraries between could need.
add_link_options(-Wl,--as-needed)
include_directories(${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/gen)

if(CD_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(CD_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
else()
  add_compile_options($<$<CONFIG:RelWithDebInfo,Release>:-D_FORTIFY_SOURCE=2> -fstack-protector-strong)
endif()
if(CD_FUZZ)
  # Without pointer-overflow: clang's takes NULL + 0 for an error (an empty vector), which C2y and every compiler define;
  # pointers that really go astray are found by the address sanitizer.
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=pointer-overflow
    -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
endif()

# Tests are linked by lld where it is: a third of the time, and a build links two hundred of them. What users run has the
# system's linker, except under a sanitizer, whose programs are tests, too.
find_program(CD_LLD ld.lld)
set(CD_TEST_LINK_OPTIONS $<$<BOOL:${CD_LLD}>:-fuse-ld=lld>)
if(CD_SANITIZE)
  add_link_options(${CD_TEST_LINK_OPTIONS})
endif()

# What ctest runs, without the programs that it does not.
add_custom_target(unit_tests)

include(layers)

# cd_library(NAME SOURCES a.c ... [DEPENDS folder ...] [PKG pkgconfig ...] [LIBS lib ...])
# One static library per folder, named after it. DEPENDS beyond the table in layers.cmake stop the configuration, and a
# source that includes a header of another folder fails the test `layering`.
function(cd_library name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPENDS;PKG;LIBS" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  foreach(d ${A_DEPENDS})
    if(NOT d IN_LIST CD_MAY_${name})
      message(FATAL_ERROR "${name}/ must not depend on ${d}/ (cmake/contentd.cmake)")
    endif()
  endforeach()
  target_link_libraries(${name} PUBLIC ${A_DEPENDS} Threads::Threads)
  foreach(p ${A_PKG})
    if(NOT TARGET PkgConfig::${p})
      pkg_check_modules(${p} REQUIRED IMPORTED_TARGET GLOBAL ${p})
    endif()
    target_link_libraries(${name} PUBLIC PkgConfig::${p})
  endforeach()
  target_link_libraries(${name} PUBLIC ${A_LIBS})
endfunction()

# cd_program(NAME SOURCES ... DEPENDS ... [LIBS ...] [INSTALL DIR]): a program in build/bin; INSTALL: where, below the
# prefix, `make install` puts it.
function(cd_program name)
  cmake_parse_arguments(A "" "INSTALL" "SOURCES;DEPENDS;LIBS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE ${A_DEPENDS} ${A_LIBS})
  if(A_INSTALL)
    install(TARGETS ${name} DESTINATION ${A_INSTALL})
  endif()
endfunction()

# cd_test(NAME SOURCES x_test.c ... DEPENDS folder ... [LIBS ...]): a cmocka program, run by ctest with label "unit".
function(cd_test name)
  if(CD_FUZZ)
    return()
  endif()
  cmake_parse_arguments(A "" "" "SOURCES;DEPENDS;LIBS" ${ARGN})
  if(NOT TARGET PkgConfig::cmocka)
    pkg_check_modules(cmocka REQUIRED IMPORTED_TARGET GLOBAL cmocka)
  endif()
  add_executable(${name} ${A_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/unit)
  target_link_libraries(${name} PRIVATE ${A_DEPENDS} ${A_LIBS} PkgConfig::cmocka)
  target_link_options(${name} PRIVATE ${CD_TEST_LINK_OPTIONS})
  add_dependencies(unit_tests ${name})
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 120)
endfunction()

# cd_fuzz(NAME SOURCES fuzz_x.c DEPENDS folder ... CORPUS dir): LLVMFuzzerTestOneInput. With CD_FUZZ a libFuzzer
# program in build/fuzz; otherwise a replayer of its corpus, run by ctest.
function(cd_fuzz name)
  cmake_parse_arguments(A "" "CORPUS" "SOURCES;DEPENDS;LIBS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  target_compile_options(${name} PRIVATE -Wno-missing-prototypes) # LLVMFuzzerTestOneInput has no header
  target_link_libraries(${name} PRIVATE ${A_DEPENDS} ${A_LIBS})
  if(CD_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c)
    target_link_options(${name} PRIVATE ${CD_TEST_LINK_OPTIONS})
    add_dependencies(unit_tests ${name})
    add_test(NAME ${name} COMMAND ${name} ${A_CORPUS} WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES LABELS "unit;fuzz-corpus" TIMEOUT 120)
  endif()
endfunction()

# cd_proto(OUT_VAR DIR): protobuf-c sources of every .proto file in DIR (a folder of the source tree; a file added there
# is found by the next build). They come out under build/gen with the same folder, so that code includes
# "rpc/proto/content.pb-c.h"; .proto files import each other by bare name. protobuf-c/protobuf-c.proto, which has the
# options of the generator, comes from the system.
function(cd_proto out dir)
  find_program(PROTOC_C protoc-c REQUIRED)
  file(GLOB protos RELATIVE ${CMAKE_SOURCE_DIR}/${dir} CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${dir}/*.proto)
  list(TRANSFORM protos PREPEND ${CMAKE_SOURCE_DIR}/${dir}/ OUTPUT_VARIABLE proto_files)
  list(TRANSFORM protos REPLACE "\\.proto$" ".pb-c.c" OUTPUT_VARIABLE sources)
  list(TRANSFORM sources PREPEND ${CMAKE_BINARY_DIR}/gen/${dir}/)
  list(TRANSFORM sources REPLACE "\\.c$" ".h" OUTPUT_VARIABLE headers)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/gen/${dir})
  add_custom_command(
    OUTPUT ${sources} ${headers}
    COMMAND ${PROTOC_C} --proto_path=/usr/include --proto_path=${CMAKE_SOURCE_DIR}/${dir}
            --c_out=${CMAKE_BINARY_DIR}/gen/${dir} ${protos}
    DEPENDS ${proto_files} VERBATIM)
  set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "-w")
  set(${out} ${sources} ${headers} PARENT_SCOPE)
endfunction()
