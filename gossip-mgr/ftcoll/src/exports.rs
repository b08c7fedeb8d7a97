//! The functions of MPI that programs call here instead: each goes on to its twin in pmpi.c.
//!
//! A handle is a pointer in some MPIs and a number in others. On the machines that we are built for both are passed in a
//! register of one word, so here they are words, and pmpi.c gets them as they were.

use std::ffi::{c_char, c_int, c_void};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("handles of MPI are passed on as words of 64 bits");

type Handle = usize;

macro_rules! pass_on {
    ($($name:ident => $twin:ident($($argument:ident: $kind:ty),*);)*) => {
        unsafe extern "C" {
            $(fn $twin($($argument: $kind),*) -> c_int;)*
        }
        $(
            /// # Safety
            /// As MPI's function of this name.
            #[unsafe(no_mangle)]
            #[allow(non_snake_case, reason = "the name is MPI's")]
            unsafe extern "C" fn $name($($argument: $kind),*) -> c_int {
                // SAFETY: all arguments are passed on as they were given.
                unsafe { $twin($($argument),*) }
            }
        )*
    };
}

pass_on! {
    MPI_Init => ftcoll_as_MPI_Init(count: *mut c_int, arguments: *mut *mut *mut c_char);
    MPI_Init_thread => ftcoll_as_MPI_Init_thread(
        count: *mut c_int, arguments: *mut *mut *mut c_char, required: c_int, provided: *mut c_int
    );
    MPI_Finalize => ftcoll_as_MPI_Finalize();
    MPI_Bcast => ftcoll_as_MPI_Bcast(buffer: *mut c_void, count: c_int, datatype: Handle, root: c_int, comm: Handle);
    MPI_Reduce => ftcoll_as_MPI_Reduce(
        from: *const c_void, to: *mut c_void, count: c_int, datatype: Handle, op: Handle, root: c_int, comm: Handle
    );
    MPI_Allreduce => ftcoll_as_MPI_Allreduce(
        from: *const c_void, to: *mut c_void, count: c_int, datatype: Handle, op: Handle, comm: Handle
    );
    MPI_Barrier => ftcoll_as_MPI_Barrier(comm: Handle);
}
