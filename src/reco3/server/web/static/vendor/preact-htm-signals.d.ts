export { Component, Fragment, createContext, h, render } from "preact";
export type { ComponentChildren, VNode } from "preact";
export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
export { batch, computed, effect, signal, untracked } from "@preact/signals";
export type { ReadonlySignal, Signal } from "@preact/signals";
import type { VNode } from "preact";
export const html: (strings: TemplateStringsArray, ...values: unknown[]) => VNode;
