savedcmd_arch/um/os-mk/vdso/note.o := gcc -Wp,-MMD,arch/um/os-mk/vdso/.note.o.d -nostdinc -I./arch/um/os-mk/include -I./arch/um/include -I./arch/um/include/generated  -I./include -I./arch/um/include/uapi -I./arch/um/include/generated/uapi -I./include/uapi -I./include/generated/uapi -include ./include/linux/compiler-version.h -include ./include/linux/kconfig.h -D__KERNEL__ -m64 -I./arch/x86/um -I./arch/x86/include -I./arch/x86/include/uapi -I./arch/x86/include/generated -I./arch/x86/include/generated/uapi -fmacro-prefix-map=./= -D__ASSEMBLY__ -fno-PIE -m64    -DKBUILD_MODFILE='"arch/um/os-mk/vdso/note"' -DKBUILD_MODNAME='"note"' -D__KBUILD_MODNAME=kmod_note -c -o arch/um/os-mk/vdso/note.o arch/um/os-mk/vdso/note.S 

source_arch/um/os-mk/vdso/note.o := arch/um/os-mk/vdso/note.S

deps_arch/um/os-mk/vdso/note.o := \
  include/linux/compiler-version.h \
    $(wildcard include/config/CC_VERSION_TEXT) \
  include/linux/kconfig.h \
    $(wildcard include/config/CPU_BIG_ENDIAN) \
    $(wildcard include/config/BOOGER) \
    $(wildcard include/config/FOO) \
  include/linux/elfnote.h \
  include/generated/uapi/linux/version.h \

arch/um/os-mk/vdso/note.o: $(deps_arch/um/os-mk/vdso/note.o)

$(deps_arch/um/os-mk/vdso/note.o):
