<#
.SYNOPSIS
Builds dist\reco3-agent.exe, the agent as a single file for Windows.

.DESCRIPTION
For PCs on which the agent is run by hand or by another scheduler; the service RECO3Agent needs no such file.
It needs a Python 3.11 or newer and the package index, and refuses packages whose hash is not the one in
packaging\requirements-build.txt. It needs no administrator.
#>
[CmdletBinding()]
param()

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
. (Join-Path -Path $PSScriptRoot -ChildPath 'python_finder.ps1')

function Invoke-Step {
    # Run one program to its end; the first that fails is the last.
    param([string] $Program, [string[]] $Arguments)
    $ErrorActionPreference = 'Continue'
    & $Program @Arguments
    if ($LASTEXITCODE -ne 0) {
        Write-Host "The build stopped: $Program ended with $LASTEXITCODE."
        exit 1
    }
}

$python = @(Find-Python)
if ($python.Count -eq 0) {
    Write-PythonMissing
    exit 1
}
$program = $python[0]
$first = @($python | Select-Object -Skip 1)
Set-Location -LiteralPath (Split-Path -Path (Split-Path -Path $PSScriptRoot -Parent) -Parent)
# The same source and the same versions give the same file: no clock and no chance goes in.
$env:SOURCE_DATE_EPOCH = '315532800'
$env:PYTHONHASHSEED = '0'
$ours = 'build\venv\Scripts\python.exe'
Invoke-Step -Program $program -Arguments ($first + @('-I', '-m', 'venv', 'build\venv'))
Invoke-Step -Program $ours -Arguments @(
    '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--only-binary=:all:', '--require-hashes',
    '-r', 'packaging\requirements-build.txt'
)
Invoke-Step -Program $ours -Arguments @(
    '-m', 'PyInstaller', '--noconfirm', '--clean', '--log-level', 'WARN',
    '--distpath', 'dist', '--workpath', 'build\pyinstaller', 'packaging\reco3-agent.spec'
)
Invoke-Step -Program 'dist\reco3-agent.exe' -Arguments @('--version')
Write-Host 'built dist\reco3-agent.exe'
