//! The functions behind the hooks.

use crate::{give_up, say};
use libc::{c_int, c_void};
use std::ffi::{CStr, CString};

/// The next definition of `name` behind this library, as a function pointer of type `F`. Ends the program if there is
/// none: the caller could not go on.
///
/// # Safety
/// `F` is the type of the function pointer that `name` and `profiled` have in every MPI library.
pub unsafe fn next<F: Copy>(name: &CStr, profiled: &CStr) -> F {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: dlsym with valid strings.
    let mut address = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if address.is_null() {
        // Programs that load their MPI library late, as Python does, keep it out of the global scope.
        address = in_loaded_objects(profiled);
    }
    if address.is_null() {
        say(&format!("no MPI library defines {} or {}", name.to_string_lossy(), profiled.to_string_lossy()));
        give_up();
    }
    // SAFETY: the sizes agree (above), and the caller vouches for the type.
    unsafe { std::mem::transmute_copy(&address) }
}

/// Looks a symbol up in every object that is loaded.
fn in_loaded_objects(name: &CStr) -> *mut c_void {
    unsafe extern "C" fn collect(info: *mut libc::dl_phdr_info, _: usize, names: *mut c_void) -> c_int {
        // SAFETY: dl_iterate_phdr gives a valid record, whose name is a string, and passes our vector through.
        unsafe {
            let object = CStr::from_ptr((*info).dlpi_name);
            if !object.is_empty() {
                (*names.cast::<Vec<CString>>()).push(object.to_owned());
            }
        }
        0
    }
    let mut objects: Vec<CString> = Vec::new();
    // The names are collected first: dlopen inside the iteration would wait for the iteration's own lock.
    // SAFETY: the callback has the wanted type, and the vector outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(collect), (&raw mut objects).cast()) };
    for object in objects {
        // SAFETY: valid strings; RTLD_NOLOAD only takes a reference to what is loaded, and dlclose gives it back. The
        // symbol stays: the object is still held by whoever loaded it.
        let address = unsafe {
            let handle = libc::dlopen(object.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if handle.is_null() {
                continue;
            }
            let address = libc::dlsym(handle, name.as_ptr());
            libc::dlclose(handle);
            address
        };
        if !address.is_null() {
            return address;
        }
    }
    std::ptr::null_mut()
}

/// Ends the process at once, all threads.
pub fn exit_now(status: c_int) -> ! {
    loop {
        // SAFETY: exit_group does not return.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}
