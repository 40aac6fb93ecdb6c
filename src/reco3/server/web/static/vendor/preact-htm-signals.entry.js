// What goes into preact-htm-signals.js; `npm run vendor` builds it. Nothing else is taken from npm at run time.
export { Component, Fragment, createContext, h, render } from "preact";
export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
export { batch, computed, effect, signal, untracked } from "@preact/signals";
import htm from "htm";
import { h } from "preact";
export const html = htm.bind(h);
