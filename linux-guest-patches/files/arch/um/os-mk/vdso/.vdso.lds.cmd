savedcmd_arch/um/os-mk/vdso/vdso.lds := gcc -E -Wp,-MMD,arch/um/os-mk/vdso/.vdso.lds.d -nostdinc -I./arch/um/os-mk/include -I./arch/um/include -I./arch/um/include/generated  -I./include -I./arch/um/include/uapi -I./arch/um/include/generated/uapi -I./include/uapi -I./include/generated/uapi -include ./include/linux/compiler-version.h -include ./include/linux/kconfig.h -D__KERNEL__ -m64 -I./arch/x86/um -I./arch/x86/include -I./arch/x86/include/uapi -I./arch/x86/include/generated -I./arch/x86/include/generated/uapi -fmacro-prefix-map=./=  -P -C -P -Uum -D__ASSEMBLY__ -DLINKER_SCRIPT -o arch/um/os-mk/vdso/vdso.lds arch/um/os-mk/vdso/vdso.lds.S

source_arch/um/os-mk/vdso/vdso.lds := arch/um/os-mk/vdso/vdso.lds.S

deps_arch/um/os-mk/vdso/vdso.lds := \
    $(wildcard include/config/PAGE_SHIFT) \
  include/linux/compiler-version.h \
    $(wildcard include/config/CC_VERSION_TEXT) \
  include/linux/kconfig.h \
    $(wildcard include/config/CPU_BIG_ENDIAN) \
    $(wildcard include/config/BOOGER) \
    $(wildcard include/config/FOO) \
  include/linux/const.h \
  include/vdso/const.h \
  include/uapi/linux/const.h \

arch/um/os-mk/vdso/vdso.lds: $(deps_arch/um/os-mk/vdso/vdso.lds)

$(deps_arch/um/os-mk/vdso/vdso.lds):
