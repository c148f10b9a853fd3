// Workgroup counts: a linear number of workgroups laid out within WebGPU's 65,535 a dimension.

import { ceilDiv, type Dim, isStatic, min } from "../ir/dims.ts";

const MOST = 65535;

/** Workgroups for `total` invocations, `size` to a workgroup. */
export const gridFor = (total: Dim, size: number): [Dim, Dim, Dim] => gridOf(ceilDiv(total, size));

/** `groups` workgroups as x·y; a kernel numbers them y·num_workgroups.x + x and skips what is over. */
export function gridOf(groups: Dim): [Dim, Dim, Dim] {
  if (isStatic(groups)) {
    const rows = Math.max(1, Math.ceil(groups / MOST));
    return [Math.ceil(groups / rows), groups === 0 ? 0 : rows, 1];
  }
  return [min(groups, MOST), ceilDiv(groups, MOST), 1];
}

/** Built-in parameters of a kernel's entry point. */
export const ENTRY_PARAMETERS =
  "@builtin(workgroup_id) workgroup: vec3u, @builtin(num_workgroups) workgroups: vec3u, @builtin(local_invocation_index) lane: u32";
/** The linear number of this workgroup, as i32 text. */
export const WORKGROUP_NUMBER = "i32(workgroup.y * workgroups.x + workgroup.x)";
