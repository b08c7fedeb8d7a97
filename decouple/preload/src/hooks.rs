//! MPI_Init in all its spellings: C, the Fortran compilers' names for `mpif.h` and `use mpi`, `use mpi_f08`, sessions.
//!
//! Each calls the next definition of the same name, so that other profiling libraries keep working, and then decouples
//! the calling thread. Arguments are passed on untouched: MPI libraries differ in what they point to.

use crate::{initialised, real};
use libc::{c_int, c_void};

type Pointer = *mut c_void;

/// MPI_SUCCESS of every MPI library.
const SUCCESS: c_int = 0;

fn after(result: c_int) -> c_int {
    if result == SUCCESS {
        initialised();
    }
    result
}

#[unsafe(no_mangle)]
pub extern "C" fn MPI_Init(argc: Pointer, argv: Pointer) -> c_int {
    // SAFETY: the type of MPI_Init in the MPI standard.
    let next: extern "C" fn(Pointer, Pointer) -> c_int = unsafe { real::next(c"MPI_Init", c"PMPI_Init") };
    after(next(argc, argv))
}

#[unsafe(no_mangle)]
pub extern "C" fn MPI_Init_thread(argc: Pointer, argv: Pointer, required: c_int, provided: Pointer) -> c_int {
    // SAFETY: the type of MPI_Init_thread in the MPI standard.
    let next: extern "C" fn(Pointer, Pointer, c_int, Pointer) -> c_int =
        unsafe { real::next(c"MPI_Init_thread", c"PMPI_Init_thread") };
    after(next(argc, argv, required, provided))
}

/// MPI 4's other beginning. Handles are pointers in some libraries and numbers in others; a register holds either.
#[unsafe(no_mangle)]
pub extern "C" fn MPI_Session_init(info: Pointer, handler: Pointer, session: Pointer) -> c_int {
    // SAFETY: the type of MPI_Session_init in the MPI standard.
    let next: extern "C" fn(Pointer, Pointer, Pointer) -> c_int =
        unsafe { real::next(c"MPI_Session_init", c"PMPI_Session_init") };
    after(next(info, handler, session))
}

/// A Fortran MPI_INIT(ierror): the error is an optional argument of `use mpi_f08`, where it may be null.
macro_rules! fortran_init {
    ($($name:ident $c_name:literal $profiled:literal),*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(error: *mut c_int) {
            // SAFETY: the binding that the MPI libraries give to Fortran's MPI_INIT.
            let next: extern "C" fn(*mut c_int) = unsafe { real::next($c_name, $profiled) };
            next(error);
            after(fortran_result(error));
        }
    )*};
}

/// A Fortran MPI_INIT_THREAD(required, provided, ierror).
macro_rules! fortran_init_thread {
    ($($name:ident $c_name:literal $profiled:literal),*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(required: Pointer, provided: Pointer, error: *mut c_int) {
            // SAFETY: the binding that the MPI libraries give to Fortran's MPI_INIT_THREAD.
            let next: extern "C" fn(Pointer, Pointer, *mut c_int) = unsafe { real::next($c_name, $profiled) };
            next(required, provided, error);
            after(fortran_result(error));
        }
    )*};
}

fn fortran_result(error: *mut c_int) -> c_int {
    // SAFETY: null, or the caller's INTEGER that the MPI library has just written.
    unsafe { error.as_ref() }.copied().unwrap_or(SUCCESS)
}

fortran_init! {
    mpi_init c"mpi_init" c"pmpi_init",
    mpi_init_ c"mpi_init_" c"pmpi_init_",
    mpi_init__ c"mpi_init__" c"pmpi_init__",
    MPI_INIT c"MPI_INIT" c"PMPI_INIT",
    mpi_init_f08_ c"mpi_init_f08_" c"pmpi_init_f08_"
}

fortran_init_thread! {
    mpi_init_thread c"mpi_init_thread" c"pmpi_init_thread",
    mpi_init_thread_ c"mpi_init_thread_" c"pmpi_init_thread_",
    mpi_init_thread__ c"mpi_init_thread__" c"pmpi_init_thread__",
    MPI_INIT_THREAD c"MPI_INIT_THREAD" c"PMPI_INIT_THREAD",
    mpi_init_thread_f08_ c"mpi_init_thread_f08_" c"pmpi_init_thread_f08_"
}
