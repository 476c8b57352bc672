/* Licensed under the Apache License, Version 2.0 (the "License");
 * you may not use this file except in compliance with the License.
 * You may obtain a copy of the License at
 *
 *     http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS,
 * WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
 * See the License for the specific language governing permissions and
 * limitations under the License.
 */

/*
 * differential_make.h: makes sequences from a seed, shortens and prints them.
 */

#ifndef DIFFERENTIAL_MAKE_H
#define DIFFERENTIAL_MAKE_H

#include "differential.h"

/* Fills ops, which has room for OPS_MAX; returns their number. */
int sequence_make(op_t *ops, uint64_t seed);

/* Shortens a sequence that has a difference, and prints it. */
void sequence_report(op_t *ops, int num, uint64_t seed);

/* differential.c: runs a sequence; 0: there is a difference, see shared. */
int sequence_holds(const op_t *ops, int num);

#endif
