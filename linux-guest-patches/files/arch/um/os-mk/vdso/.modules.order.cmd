savedcmd_arch/um/os-mk/vdso/modules.order := {  :; } > arch/um/os-mk/vdso/modules.order
