<?xml version="1.0" encoding="UTF-8"?>
<!-- Licensed under the Apache License, Version 2.0 (the "License");
     you may not use this file except in compliance with the License.
     You may obtain a copy of the License at

         http://www.apache.org/licenses/LICENSE-2.0

     Unless required by applicable law or agreed to in writing, software
     distributed under the License is distributed on an "AS IS" BASIS,
     WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
     See the License for the specific language governing permissions and
     limitations under the License. -->

<!-- The page of a module as HTML, in the manner of httpd's manual. Parameter
     lang: en or fr. -->
<xsl:stylesheet version="1.0"
                xmlns:xsl="http://www.w3.org/1999/XSL/Transform"
                xmlns="http://www.w3.org/1999/xhtml"
                xmlns:t="urn:words" exclude-result-prefixes="t">

<xsl:output method="xml" encoding="UTF-8" omit-xml-declaration="yes"
    doctype-public="-//W3C//DTD XHTML 1.0 Strict//EN"
    doctype-system="http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd"/>

<xsl:param name="lang" select="'en'"/>

<!-- ==== words ==== -->

<t:words lang="en" httpd="https://httpd.apache.org/docs/2.4/">
  <t:w id="title">Apache Module</t:w>
  <t:w id="languages">Available languages:</t:w>
  <t:w id="manual">Apache HTTP Server 2.4</t:w>
  <t:w id="modules">Modules</t:w>
  <t:w id="directives">Directives</t:w>
  <t:w id="directive">Directive</t:w>
  <t:w id="topics">Topics</t:w>
  <t:w id="seealso">See also</t:w>
  <t:w id="summary">Summary</t:w>
  <t:w id="top">top</t:w>
  <t:w id="description">Description:</t:w>
  <t:w id="status">Status:</t:w>
  <t:w id="identifier">Module Identifier:</t:w>
  <t:w id="sourcefile">Source File:</t:w>
  <t:w id="compatibility">Compatibility:</t:w>
  <t:w id="syntax">Syntax:</t:w>
  <t:w id="default">Default:</t:w>
  <t:w id="context">Context:</t:w>
  <t:w id="module">Module:</t:w>
  <t:w id="licence">Licensed under the</t:w>
  <t:w id="server config">server config</t:w>
</t:words>
<t:words lang="fr" httpd="https://httpd.apache.org/docs/2.4/fr/">
  <t:w id="title">Module Apache</t:w>
  <t:w id="languages">Langues disponibles :</t:w>
  <t:w id="manual">Serveur HTTP Apache 2.4</t:w>
  <t:w id="modules">Modules</t:w>
  <t:w id="directives">Directives</t:w>
  <t:w id="directive">Directive</t:w>
  <t:w id="topics">Sujets</t:w>
  <t:w id="seealso">Voir aussi</t:w>
  <t:w id="summary">Sommaire</t:w>
  <t:w id="top">haut de page</t:w>
  <t:w id="description">Description :</t:w>
  <t:w id="status">Statut :</t:w>
  <t:w id="identifier">Identificateur de module :</t:w>
  <t:w id="sourcefile">Fichier source :</t:w>
  <t:w id="compatibility">Compatibilité :</t:w>
  <t:w id="syntax">Syntaxe :</t:w>
  <t:w id="default">Défaut :</t:w>
  <t:w id="context">Contexte :</t:w>
  <t:w id="module">Module :</t:w>
  <t:w id="licence">Sous licence</t:w>
  <t:w id="server config">configuration globale</t:w>
</t:words>

<xsl:variable name="words" select="document('')/*/t:words[@lang = $lang]"/>
<xsl:variable name="httpd" select="$words/@httpd"/>

<xsl:template name="word">
  <xsl:param name="id"/>
  <xsl:value-of select="$words/t:w[@id = $id]"/>
</xsl:template>

<xsl:template name="lower">
  <xsl:value-of select="translate(., 'ABCDEFGHIJKLMNOPQRSTUVWXYZ',
                                     'abcdefghijklmnopqrstuvwxyz')"/>
</xsl:template>

<!-- ==== the page ==== -->

<xsl:template match="/modulesynopsis">
<xsl:comment> Made by docs/manual/build from docs/mod_slotmem_shm.xml*: edit
     that. Licensed under the Apache License, Version 2.0. </xsl:comment>
<xsl:text>
</xsl:text>
<html lang="{$lang}" xml:lang="{$lang}">
<head>
<meta http-equiv="Content-Type" content="text/html; charset=UTF-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title><xsl:value-of select="name"/> - <xsl:call-template name="word"
  ><xsl:with-param name="id" select="'manual'"/></xsl:call-template></title>
<link href="manual.css" rel="stylesheet" type="text/css"/>
</head>
<body id="page">
<div class="page-header">
<p><a href="{$httpd}mod/"><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'modules'"/></xsl:call-template></a> |
<a href="{$httpd}mod/quickreference.html"><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'directives'"/></xsl:call-template></a></p>
<p class="version"><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'manual'"/></xsl:call-template></p>
</div>
<div class="path"><a href="{$httpd}"><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'manual'"/></xsl:call-template></a> &gt;
<a href="{$httpd}mod/"><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'modules'"/></xsl:call-template></a> &gt;
<xsl:value-of select="name"/></div>
<div id="content">
<h1><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'title'"/></xsl:call-template
  ><xsl:text> </xsl:text><xsl:value-of select="name"/></h1>
<p class="languages"><span><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'languages'"/></xsl:call-template></span
  ><xsl:text> </xsl:text><a href="{name}.html" hreflang="en">en</a> |
<a href="{name}.fr.html" hreflang="fr">fr</a></p>
<xsl:call-template name="quickview"/>
<table class="module">
<xsl:apply-templates select="description | status" mode="row"/>
<xsl:apply-templates select="identifier" mode="row"/>
<xsl:apply-templates select="sourcefile" mode="row"/>
<xsl:apply-templates select="compatibility" mode="row"/>
</table>
<h2 id="summary"><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'summary'"/></xsl:call-template></h2>
<xsl:apply-templates select="summary/*"/>
<xsl:apply-templates select="section | directivesynopsis"/>
</div>
<div class="footer"><p><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'licence'"/></xsl:call-template
  ><xsl:text> </xsl:text><a href="https://www.apache.org/licenses/LICENSE-2.0"
  >Apache License, Version 2.0</a>.</p></div>
</body>
</html>
</xsl:template>

<xsl:template name="quickview">
<div class="quickview">
<h3><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'topics'"/></xsl:call-template></h3>
<ul>
<xsl:for-each select="section">
<li><a href="#{@id}"><xsl:value-of select="title"/></a></li>
</xsl:for-each>
</ul>
<h3><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'directives'"/></xsl:call-template></h3>
<ul>
<xsl:for-each select="directivesynopsis/name">
<xsl:sort/>
<xsl:variable name="id"><xsl:call-template name="lower"/></xsl:variable>
<li><a href="#{$id}"><xsl:value-of select="."/></a></li>
</xsl:for-each>
</ul>
<xsl:if test="seealso">
<h3><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'seealso'"/></xsl:call-template></h3>
<ul>
<xsl:for-each select="seealso"><li><xsl:apply-templates/></li></xsl:for-each>
</ul>
</xsl:if>
</div>
</xsl:template>

<xsl:template match="*" mode="row">
<tr><th><xsl:call-template name="word"><xsl:with-param name="id"
  select="local-name()"/></xsl:call-template></th><td
  ><xsl:apply-templates/></td></tr>
</xsl:template>

<xsl:template match="syntax | default" mode="row">
<tr><th><xsl:call-template name="word"><xsl:with-param name="id"
  select="local-name()"/></xsl:call-template></th><td><code
  ><xsl:apply-templates/></code></td></tr>
</xsl:template>

<xsl:template match="contextlist" mode="row">
<tr><th><xsl:call-template name="word"><xsl:with-param name="id"
  select="'context'"/></xsl:call-template></th><td><xsl:for-each
  select="context"><xsl:if test="position() != 1">, </xsl:if
  ><xsl:call-template name="word"><xsl:with-param name="id"
  select="string(.)"/></xsl:call-template></xsl:for-each></td></tr>
</xsl:template>

<xsl:template name="to-top">
<p class="top"><a href="#page"><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'top'"/></xsl:call-template></a></p>
</xsl:template>

<xsl:template match="modulesynopsis/section">
<xsl:call-template name="to-top"/>
<div class="section">
<h2 id="{@id}"><xsl:apply-templates select="title/node()"/></h2>
<xsl:apply-templates select="*[not(self::title)]"/>
</div>
</xsl:template>

<xsl:template match="section/section">
<h3 id="{@id}"><xsl:apply-templates select="title/node()"/></h3>
<xsl:apply-templates select="*[not(self::title)]"/>
</xsl:template>

<xsl:template match="directivesynopsis">
<xsl:variable name="id"><xsl:for-each select="name"><xsl:call-template
  name="lower"/></xsl:for-each></xsl:variable>
<xsl:call-template name="to-top"/>
<div class="directive-section">
<h2 id="{$id}"><xsl:value-of select="name"/><xsl:text> </xsl:text
  ><xsl:call-template name="word"><xsl:with-param name="id"
  select="'directive'"/></xsl:call-template></h2>
<table class="directive">
<xsl:apply-templates select="description | syntax | default | contextlist
                             | compatibility" mode="row"/>
<tr><th><xsl:call-template name="word"><xsl:with-param name="id"
  select="'module'"/></xsl:call-template></th><td><xsl:value-of
  select="/modulesynopsis/name"/></td></tr>
</table>
<xsl:apply-templates select="usage/*"/>
<xsl:if test="seealso">
<h3><xsl:call-template name="word"
  ><xsl:with-param name="id" select="'seealso'"/></xsl:call-template></h3>
<ul>
<xsl:for-each select="seealso"><li><xsl:apply-templates/></li></xsl:for-each>
</ul>
</xsl:if>
</div>
</xsl:template>

<!-- ==== text ==== -->

<xsl:template match="p | ul | ol | li | dl | dt | dd | tr | th | td | code | em
                     | strong | var">
<xsl:element name="{local-name()}"><xsl:apply-templates/></xsl:element>
<xsl:if test="self::p or self::ul or self::ol or self::li or self::dl
              or self::dd or self::tr"><xsl:text>
</xsl:text></xsl:if>
</xsl:template>

<xsl:template match="ul/text() | ol/text() | dl/text() | table/text()
                     | tr/text()"/>

<xsl:template match="table">
<table class="bordered"><xsl:text>
</xsl:text><xsl:apply-templates/></table><xsl:text>
</xsl:text></xsl:template>

<xsl:template match="note">
<div><xsl:attribute name="class"><xsl:choose
  ><xsl:when test="@type = 'warning'">warning</xsl:when
  ><xsl:otherwise>note</xsl:otherwise></xsl:choose></xsl:attribute
  ><xsl:apply-templates/></div><xsl:text>
</xsl:text></xsl:template>
<xsl:template match="note/title">
<h3><xsl:apply-templates/></h3>
</xsl:template>

<xsl:template match="example | highlight">
<pre><xsl:value-of select="."/></pre><xsl:text>
</xsl:text></xsl:template>

<!-- A link that is relative to the page's source. -->
<xsl:template match="a">
<a><xsl:attribute name="href"><xsl:if test="not(contains(@href, ':'))
  and not(starts-with(@href, '#'))">../</xsl:if><xsl:value-of
  select="@href"/></xsl:attribute><xsl:apply-templates/></a>
</xsl:template>

<xsl:template match="module">
<xsl:choose>
<xsl:when test=". = /modulesynopsis/name
                or not(starts-with(., 'mod_proxy_balancer')
                       or . = 'mod_status' or . = 'mod_heartmonitor'
                       or . = 'mod_lbmethod_heartbeat')"><code
  ><xsl:value-of select="."/></code></xsl:when>
<xsl:otherwise><code><a href="{$httpd}mod/{.}.html"><xsl:value-of
  select="."/></a></code></xsl:otherwise>
</xsl:choose>
</xsl:template>

<xsl:template match="directive">
<xsl:variable name="id"><xsl:call-template name="lower"/></xsl:variable>
<xsl:choose>
<xsl:when test="@module = /modulesynopsis/name"><code><a href="#{$id}"
  ><xsl:value-of select="."/></a></code></xsl:when>
<xsl:when test="@module"><code><a href="{$httpd}mod/{@module}.html#{$id}"
  ><xsl:value-of select="."/></a></code></xsl:when>
<xsl:otherwise><code><xsl:value-of select="."/></code></xsl:otherwise>
</xsl:choose>
</xsl:template>

</xsl:stylesheet>
