import js from "@eslint/js";
import globals from "globals";

const markupSinks = [
  "innerHTML",
  "outerHTML",
  "insertAdjacentHTML",
  "createContextualFragment",
  "setHTMLUnsafe",
  "parseHTMLUnsafe",
  "srcdoc",
  "write",
  "writeln",
];

const sinkMessage = "Text from PCs is hostile: let the html`` template escape it.";

const rules = {
  ...js.configs.recommended.rules,
  "no-restricted-properties": [
    "error",
    ...markupSinks.map((property) => ({ property, message: sinkMessage })),
    { property: "cssText", message: "Use a CSS class, or setProperty with a custom property." },
  ],
  "no-restricted-syntax": [
    "error",
    {
      selector: "TemplateElement[value.raw=/(dangerouslySetInnerHTML|innerHTML|srcdoc)/]",
      message: sinkMessage,
    },
    { selector: "Identifier[name='dangerouslySetInnerHTML']", message: sinkMessage },
    {
      selector: "TaggedTemplateExpression[tag.name='html'] TemplateElement[value.raw=/\\sstyle=/]",
      message: "The content security policy has no inline style: use a CSS class.",
    },
    {
      selector: "TaggedTemplateExpression[tag.name='html'] TemplateElement[value.raw=/\\s(href|src|formaction)=$/]",
      message: "An address from outside can be javascript: — build it from a constant.",
    },
    { selector: "ImportExpression", message: "Every module is imported by name, so that the service worker knows it." },
  ],
  "no-restricted-globals": ["error", "event", "name", "open", "status"],
  "no-eval": "error",
  "no-implied-eval": "error",
  "no-new-func": "error",
  "no-script-url": "error",
  "array-callback-return": "error",
  complexity: ["error", 12],
  curly: ["error", "multi-line"],
  eqeqeq: "error",
  "max-depth": ["error", 3],
  "max-lines-per-function": ["error", { max: 50, skipBlankLines: true, skipComments: true }],
  "max-params": ["error", 3],
  "no-console": "error",
  "no-implicit-coercion": "error",
  "no-promise-executor-return": "error",
  "no-shadow": "error",
  "no-template-curly-in-string": "error",
  "no-throw-literal": "error",
  "no-unneeded-ternary": "error",
  "no-useless-return": "error",
  "no-var": "error",
  "object-shorthand": "error",
  "prefer-const": "error",
  "require-unicode-regexp": "error",
};

export default [
  { ignores: ["**/vendor/**", "**/*.d.ts"] },
  {
    files: ["src/reco3/server/web/static/**/*.js"],
    languageOptions: { ecmaVersion: 2024, sourceType: "module", globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules,
  },
  {
    files: ["src/reco3/server/web/static/sw.js"],
    languageOptions: { sourceType: "script", globals: globals.serviceworker },
  },
];
