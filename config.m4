dnl Licensed under the Apache License, Version 2.0 (the "License");
dnl you may not use this file except in compliance with the License.
dnl You may obtain a copy of the License at
dnl
dnl     http://www.apache.org/licenses/LICENSE-2.0
dnl
dnl Unless required by applicable law or agreed to in writing, software
dnl distributed under the License is distributed on an "AS IS" BASIS,
dnl WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
dnl See the License for the specific language governing permissions and
dnl limitations under the License.
dnl
dnl Runs in a folder modules/slotmem of httpd's source tree. configure, outside
dnl of it, reads the list of objects here: one a line, as below.

APACHE_MODPATH_INIT(slotmem)

slotmem_shm_objects="dnl
mod_slotmem_shm.lo dnl
slotmem_provider.lo dnl
slotmem_runtime.lo dnl
slotmem_creator.lo dnl
slotmem_shm_dir.lo dnl
slotmem_instance.lo dnl
slotmem_map.lo dnl
slotmem_segment.lo dnl
slotmem_reader.lo dnl
slotmem_image.lo dnl
slotmem_restore.lo dnl
slotmem_stream.lo dnl
slotmem_serialize.lo dnl
slotmem_store.lo dnl
slotmem_lock.lo dnl
slotmem_directory.lo dnl
slotmem_process.lo dnl
slotmem_carried.lo dnl
slotmem_persist.lo dnl
slotmem_recover.lo dnl
slotmem_handover.lo dnl
slotmem_files.lo dnl
slotmem_outcome.lo dnl
slotmem_proxy.lo dnl
slotmem_proxy_merge.lo dnl
slotmem_wanted.lo dnl
slotmem_proxy_slot.lo dnl
slotmem_words.lo dnl
slotmem_workers.lo dnl
slotmem_removal.lo dnl
slotmem_names.lo dnl
slotmem_beside.lo dnl
slotmem_orphans.lo dnl
slotmem_status.lo dnl
slotmem_escape.lo dnl
slotmem_page.lo dnl
slotmem_export.lo dnl
slotmem_metrics.lo dnl
"

APACHE_MODULE(slotmem_shm, slots of shared memory for other modules, $slotmem_shm_objects, , most)

if test -f "$srcdir/$modpath_current/mod_slotmem_plain.c"; then
    APACHE_MODULE(slotmem_plain, slots of plain memory for one process, , , )
fi

APR_ADDTO(INCLUDES, [-I\$(top_srcdir)/$modpath_current])

APACHE_MODPATH_FINISH
